"""A feed-forward layer and experts in parallel, against Gemma 4's formula."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.feed_forward_config import MlpConfig, MoeConfig, ParallelConfig
from bessemer.architectures.layers.parallel import ParallelFeedForward
from bessemer.kernels.norm.rms_norm import Norm

from ..formulas import Array, gelu_tanh, near, rms, softmax, wide
from ..held import EPS, HIDDEN, draw, held, model_of, random_weights

ROWS, WIDTH, COUNT, CHOSEN, EXPERT = 6, 40, 5, 2, 32
SPARSE = MoeConfig(COUNT, CHOSEN, EXPERT, "gelu_tanh", router="router.proj")
CONFIG = ParallelConfig(MlpConfig(WIDTH, "gelu_tanh"), SPARSE)
X, RESIDUAL = draw("x", (ROWS, HIDDEN)), draw("residual", (ROWS, HIDDEN))
ARRAYS = random_weights(
    b__mlp__gate_proj=(WIDTH, HIDDEN),
    b__mlp__up_proj=(WIDTH, HIDDEN),
    b__mlp__down_proj=(HIDDEN, WIDTH),
    b__post_feedforward_layernorm_1__weight=(HIDDEN,),
    b__pre_feedforward_layernorm_2__weight=(HIDDEN,),
    b__post_feedforward_layernorm_2__weight=(HIDDEN,),
    b__router__proj=(COUNT, HIDDEN),
    b__router__scale=(HIDDEN,),
    b__router__per_expert_scale=(COUNT,),
    b__experts__switch_glu__gate_proj=(COUNT * EXPERT, HIDDEN),
    b__experts__switch_glu__up_proj=(COUNT * EXPERT, HIDDEN),
    b__experts__switch_glu__down_proj=(COUNT * HIDDEN, EXPERT),
)


def part(name: str) -> Array:
    return wide(ARRAYS[f"b.{name}"])


def gated(x: Array, gate: Array, up: Array, down: Array) -> Array:
    return (gelu_tanh(x @ gate.T) * (x @ up.T)) @ down.T


def sparse(row: Array) -> Array:
    shares = softmax(rms(row, part("router.scale") * HIDDEN**-0.5, EPS) @ part("router.proj").T)
    chosen = np.argsort(-shares)[:CHOSEN]
    x = rms(row, part("pre_feedforward_layernorm_2.weight"), EPS)
    gate, up, down = (
        part(f"experts.switch_glu.{name}_proj").reshape(COUNT, -1, size)
        for name, size in (("gate", HIDDEN), ("up", HIDDEN), ("down", EXPERT))
    )
    y = sum(
        shares[expert]
        / shares[chosen].sum()
        * part("router.per_expert_scale")[expert]
        * gated(x, gate[expert], up[expert], down[expert])
        for expert in chosen
    )
    return rms(wide(y), part("post_feedforward_layernorm_2.weight"), EPS)


@pytest.mark.parametrize("added", [False, True])
def test_both_parts_and_their_norms(added: bool) -> None:
    weight = draw("norm", (HIDDEN,))
    layer = ParallelFeedForward.load(held(ARRAYS), model_of(None), CONFIG, "b.mlp")
    residual = mx.array(RESIDUAL) if added else None
    actual = layer(mx.array(X), Norm(mx.array(weight), EPS), residual)
    names = ("gate", "up", "down")
    dense = gated(rms(wide(X), weight, EPS), *(part(f"mlp.{name}_proj") for name in names))
    oracle = rms(dense, part("post_feedforward_layernorm_1.weight"), EPS)
    oracle = oracle + np.stack([sparse(row) for row in wide(X)]) + added * RESIDUAL
    assert near(actual, oracle)
