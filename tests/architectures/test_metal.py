"""Every kind of mathematics on the Metal path, in the simulator: the references' logits again."""

import tempfile
from collections.abc import Set
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import Recurrent
from bessemer.architectures.step import Cache, StepRows
from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.model import Model, load
from bessemer.kernels.attention.pages import PAGE, Layout, Pages, Prefill
from bessemer.kernels.linear.linear_rows import MAX_ROWS
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.recurrent.runs import Runs

from .parity import GOLDEN, Parity, differences, loaded, tiny
from .steps import Session, stale
from .test_deepseek_v2 import LITE
from .tiny import Case, Floats, Tiny, prompts

TOLERANCE = 3e-4
# In float16 a router may take another one of two experts that are nearly alike, and the rows that
# see this token differ by as much as logits do; half of the rows do not.
HALF_MEDIAN, HALF_FIRST = 0.1, 0.05

# The kernels that each must launch, apart from those of plain products.
KINDS = {
    "llama_llama3": {"attention", "prefill_attention"},
    "llama_dynamic": {"attention"},  # whose rotations differ by sequence
    "gemma3_text_older": {"attention", "prefill_attention"},  # a group of windows
    "gemma2_alternating": {"attention", "prefill_attention"},  # scores that are capped
    "gpt_oss_yarn": {"attention", "route", "moe_inner", "moe_outer"},  # sinks, clamped experts
    "gpt_oss_blocks": {"attention", "moe_inner_tiles", "moe_outer_tiles"},  # of 4 bits
    "deepseek_v2_even": {"latent_attention", "head_linear", "moe_outer"},
    "deepseek_v3_groups_yarn": {"head_linear", "choose"},  # latents of odd widths are composed
    "qwen3_next_shared_keys": {"attention", "conv1d", "gated_delta"},
    "mamba2_groups": {"conv1d", "ssm_scan"},
    "granitemoehybrid_experts": {"attention", "conv1d", "ssm_scan", "moe_outer"},
    "lfm2_adjusted_tied": {"attention", "conv1d"},
    "qwen2_moe_shared": {"choose", "moe_inner", "moe_outer"},
    "qwen3_5_experts_affine": {"gated_delta", "moe_inner_tiles", "moe_sort"},
    "granitemoe_affine": {"choose", "moe_inner_tiles"},  # four experts: fewer than eight scales
    "nemotron_h_experts": {"ssm_scan", "choose"},  # experts without a gate
    "nemotron_h_odd_latent": {"ssm_scan", "choose"},
    "phimoe_longrope_biased": {"attention", "moe_inner"},  # a mixer that no kernel has
    "cohere2_pattern": {"attention"},  # means taken away, parts in parallel, interleaved pairs
    "cohere_mqa_normed_biased_untied": {"attention"},  # each head's mean taken away
    "olmo2_mha": {"attention", "rms_norm"},  # norms of all queries, and of all keys
    "glm4_biased": {"attention", "rms_norm"},  # interleaved pairs, in half of a head
    "starcoder2_window_tied": {"attention"},  # no gate
    "gemma3n_sparse_lending": {"attention", "rms_norm"},  # streams, borrowed keys
    "gemma4_per_layer_lending": {"attention", "rms_norm"},
    "gemma4_experts_keys_as_values": {"attention", "choose", "moe_outer"},
    "llama_mxfp4": {"attention"},
    "llama_mxfp8": {"attention"},
    "llama_nvfp4": {"attention"},
}
# Every kernel of every size is compiled: what others have too is left to `make test-long`.
SELDOM = {"llama_dynamic", "mamba2_groups", "nemotron_h_odd_latent", "olmo2_mha"}
IN_HALF = {
    *("llama_llama3", "gemma3_text_older", "gemma3n_sparse_lending", "gpt_oss_yarn"),
    *("deepseek_v2_even", "qwen2_moe_shared", "qwen3_next_shared_keys"),
    *("granitemoehybrid_experts", "lfm2_adjusted_tied", "cohere2_pattern"),
}
PLAIN = {"linear", "linear_dense", "linear_rows"}
OTHERS = sorted(
    path.stem
    for path in GOLDEN.glob("*.npz")
    if path.stem not in KINDS and not path.stem.startswith("encoder_")
)

EVEN = LITE | {
    "hidden_size": 80,
    "num_attention_heads": 20,
    "num_key_value_heads": 20,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
}


class TestEvenLatents(Parity):
    """Latents of widths that the kernel takes, with more heads than a threadgroup has."""

    family = "deepseek_v2"
    cases = {"even": Case(EVEN, {"rope_theta": 1300.0, "rms_norm_eps": 0.01})}


def often(chosen: Set[str]) -> list[Any]:
    """Return all kinds; those that are not chosen run in the long tests alone."""
    later = pytest.mark.long
    return [name if name in chosen else pytest.param(name, marks=later) for name in KINDS]


def fed(session: Session) -> dict[int, Floats]:
    """Two prompts: one in two runs, then a token of it with the other; both; each alone."""
    long, short = prompts()[0], prompts()[6]
    steps = [
        session.step({}, {0: long[:42]}),
        session.step({}, {0: long[42:62]}),
        session.step({0: long[62]}, {6: short[:5]}),
        session.step({0: long[63], 6: short[5]}, {}),
        session.step({0: long[64]}, {}),
        session.step({6: short[6]}, {}),
    ]
    return {s: np.concatenate([step[s] for step in steps if s in step]) for s in (0, 6)}


def max_len(sequence: int) -> int:
    return len(prompts()[sequence])


@pytest.mark.parametrize("name", often(KINDS.keys() - SELDOM))
def test_the_reference_by_kernels_with_every_access_checked(name: str) -> None:
    with using(Simulator(SimulatorOptions(mode="check"))), watching() as launches:
        errors = differences(name, fed(Session(loaded(name), max_len)))
    ran = {launch.source.name for launch in launches}
    assert ran >= KINDS[name] and (ran & PLAIN or name in ("llama_mxfp8", "llama_nvfp4"))
    assert len(errors) == 7 and max(errors) <= TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_the_reference_of_every_other_case(name: str) -> None:
    with using(Simulator(SimulatorOptions(mode="check"))):
        errors = differences(name, fed(Session(loaded(name), max_len)))
    assert len(errors) == 7 and max(errors) <= TOLERANCE


def stored_in_half(name: str) -> Model:
    """Load the checkpoint with all its floats in float16."""
    checkpoint = tiny(name)
    half = {
        n: a.astype(np.float16) if a.dtype == np.float32 else a
        for n, a in checkpoint.tensors.items()
    }
    with tempfile.TemporaryDirectory() as directory:
        return load(Tiny(checkpoint.config, half).write(Path(directory)), Reading(exact=True))


def in_half(cache: Cache) -> Cache:
    """Pages as an engine has them; states stay in float32."""
    if not isinstance(cache, Pages):
        return cache
    values = None if cache.values is None else cache.values.astype(mx.float16)
    return Pages(cache.keys.astype(mx.float16), values)


def hidden(model: Model) -> mx.array:
    """Return the hidden states of a prompt that has more rows than kernels take for products."""
    config, count = model.config, MAX_ROWS + 1
    positions, runs = mx.arange(count, dtype=mx.int32), (Prefill(0, count, count),)
    owners = mx.zeros(count, mx.int32)
    layout = Layout(positions, PAGE + positions, owners, mx.array([[1]], mx.int32), 0, runs)
    recurrent = any(isinstance(spec, Recurrent) for spec in config.caches)
    step = StepRows(
        (layout,) * len(config.windows),
        positions,
        Runs.of([count], [0], [True]) if recurrent else None,
        np.full(count, count, np.int32) if any(rope.varies for rope in config.ropes) else None,
    )
    caches = [in_half(stale(spec, 2)) for spec in config.caches]
    return model.decoder.hidden(positions, step, caches)[0]


@pytest.mark.parametrize("name", often(IN_HALF))
def test_activations_of_16_bits_stay_so_and_near_the_reference(name: str) -> None:
    with using(Simulator(SimulatorOptions(mode="fast"))):
        model = stored_in_half(name)
        session = Session(model, max_len)
        session.cache = [in_half(cache) for cache in session.cache]
        errors = differences(name, fed(session))
        assert model.decoder.dtype == hidden(model).dtype == mx.float16
    assert np.median(errors) <= HALF_MEDIAN and errors[0] <= HALF_FIRST
