"""Latent attention against its formula before absorption (arXiv 2405.04434, section 2.1)."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import LatentConfig, Rope
from bessemer.architectures.layers.mla import LatentAttention

from ..formulas import Array, attend, near, rms, rotate, wide
from ..held import HIDDEN, draw, held, model_of, prompt, random_weights
from ..steps import stale

ROWS, HEADS, RANK, QUERY_RANK, NOPE, ROTARY, VALUE = 35, 4, 16, 24, 8, 4, 12
ROPE, EPS = Rope(ROTARY, 100.0), 1e-2
CONFIG = LatentConfig(HEADS, QUERY_RANK, RANK, NOPE, ROTARY, VALUE, 0.4, ROPE, eps=EPS)
X, RESIDUAL = draw("x", (ROWS, HIDDEN)), draw("residual", (ROWS, HIDDEN))
ARRAYS = random_weights(
    a__q_a_proj=(QUERY_RANK, HIDDEN),
    a__q_a_layernorm__weight=(QUERY_RANK,),
    a__q_b_proj=(HEADS * (NOPE + ROTARY), QUERY_RANK),
    a__q_proj=(HEADS * (NOPE + ROTARY), HIDDEN),
    a__kv_a_proj_with_mqa=(RANK + ROTARY, HIDDEN),
    a__kv_a_layernorm__weight=(RANK,),
    a__kv_b_proj=(HEADS * (NOPE + VALUE), RANK),
    a__o_proj=(HIDDEN, HEADS * VALUE),
    a__q_a_proj__bias=(QUERY_RANK,),
    a__kv_a_proj_with_mqa__bias=(RANK + ROTARY,),
    a__o_proj__bias=(HIDDEN,),
)


def times(x: Array, part: str, bias: bool = False) -> Array:
    y = wide(x) @ wide(ARRAYS[f"a.{part}"]).T
    return y + ARRAYS[f"a.{part}.bias"] if bias else y


def oracle(config: LatentConfig) -> Array:
    """Keys and values of every head, written out."""
    if config.query_rank:
        latent = times(X, "q_a_proj", config.bias)
        q = times(rms(latent, ARRAYS["a.q_a_layernorm.weight"], EPS), "q_b_proj")
    else:
        q = times(X, "q_proj")
    latent, shared = np.split(times(X, "kv_a_proj_with_mqa", config.bias), [RANK], axis=1)
    latent = rms(latent, ARRAYS["a.kv_a_layernorm.weight"], EPS)
    k, v = np.split(times(latent, "kv_b_proj").reshape(ROWS, HEADS, -1), [NOPE], axis=2)
    q, q_rotary = np.split(q.reshape(ROWS, HEADS, -1), [NOPE], axis=2)
    q_rotary = rotate(q_rotary, ROPE.theta, config.interleaved)
    k_rotary = rotate(shared[:, None], ROPE.theta, config.interleaved).repeat(HEADS, axis=1)
    q, k = (np.concatenate(each, axis=2) for each in ((q, q_rotary), (k, k_rotary)))
    return times(attend(q, k, v, config.scale), "o_proj", config.bias) + RESIDUAL


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("query_rank", [QUERY_RANK, 0])
def test_the_absorbed_form_is_the_published_one(
    query_rank: int, bias: bool, interleaved: bool
) -> None:
    config = replace(CONFIG, query_rank=query_rank, bias=bias, interleaved=interleaved)
    loaded = LatentAttention.load(held(ARRAYS), model_of(config), config, "a")
    cache = stale(config.cache, 4)
    actual, _ = loaded(mx.array(X), None, mx.array(RESIDUAL), prompt(ROWS, ROPE), cache)
    assert near(actual, oracle(config))


def test_projections_that_mlx_lm_has_split() -> None:
    both = ARRAYS["a.kv_b_proj"].reshape(HEADS, NOPE + VALUE, RANK)
    keys = both[:, :NOPE].transpose(0, 2, 1).reshape(-1, NOPE)
    arrays = {name: value for name, value in ARRAYS.items() if name != "a.kv_b_proj"}
    arrays |= {"a.embed_q": keys, "a.unembed_out": both[:, NOPE:].reshape(-1, RANK)}
    loaded = LatentAttention.load(held(arrays), model_of(CONFIG), CONFIG, "a")
    cache = stale(CONFIG.cache, 4)
    actual, _ = loaded(mx.array(X), None, mx.array(RESIDUAL), prompt(ROWS, ROPE), cache)
    assert near(actual, oracle(CONFIG))
