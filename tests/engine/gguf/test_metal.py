"""GGUF models of mixed types, by Metal kernels in the simulator: the logits of the definition."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.gguf.block_types import TYPES
from bessemer.engine.model import load
from bessemer.kernels.metal.device import Nowhere, Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from tests.engine.paper_model import request_for
from tests.engine.test_families import compared, served

from .writer import Raw, Uint32, vocabulary, write

HIDDEN, TOKENS, EXPERTS = 256, 80, 4
NUMBERS = {each.name: number for number, each in TYPES.items()}
# Where 16-bit factors stand in a block, and how large they are in weights of about 1 / 16.
FACTORS: Mapping[str, Mapping[int, float]] = {
    "Q4_0": {0: 0.012},
    "Q5_0": {0: 0.006},
    "Q8_0": {0: 0.0008},
    "IQ4_NL": {0: 0.0009},
    "Q2_K": {80: 0.003, 82: 0.0045},
    "Q3_K": {108: 0.0015},
    "Q4_K": {0: 0.00025, 2: 0.0019},
    "Q5_K": {0: 0.00012, 2: 0.0019},
    "Q6_K": {208: 0.00004},
    "IQ4_XS": {0: 0.00005},
}
# As llama.cpp mixes them: values and `down` finer than the rest.
DENSE = {
    "token_embd": "Q6_K",
    "attn_q": "Q4_K",
    "attn_k": "Q4_K",
    "attn_v": "Q6_K",
    "attn_output": "Q5_K",
    "ffn_gate": "Q4_K",
    "ffn_up": "Q4_K",
    "ffn_down": "Q6_K",
}
MIXED = {
    "token_embd": "Q2_K",
    "output": "Q3_K",
    "attn_q": "IQ4_XS",
    "attn_k": "Q8_0",
    "attn_v": "Q5_0",
    "attn_output": "IQ4_NL",
    "ffn_gate_exps": "Q4_K",
    "ffn_up_exps": "Q4_K",
    "ffn_down_exps": "Q6_K",
}


def blocks(random: np.random.Generator, name: str, *shape: int) -> Raw:
    """Random codes and whole numbers, under factors that make them weights."""
    kind, places = TYPES[NUMBERS[name]], FACTORS[name]
    count = int(np.prod(shape)) // kind.values
    raw = random.integers(0, 256, (count, kind.bytes), dtype=np.uint8)
    for place, size in places.items():
        factors = (size * random.uniform(0.5, 1, (count, 1))).astype(np.float16)
        raw[:, place : place + 2] = factors.view(np.uint8)
    return Raw(shape[::-1], NUMBERS[name], raw.tobytes())


def plain(values: np.ndarray) -> Raw:
    return Raw(values.shape[::-1], NUMBERS["F32"], values.astype(np.float32).tobytes())


def model_file(path: Path, types: Mapping[str, str]) -> Path:
    """Write a Llama of one layer, or a Mixtral where there are types for experts."""
    random, mixture = np.random.default_rng(0), "ffn_gate_exps" in types
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (TOKENS, HIDDEN),
        "output": (TOKENS, HIDDEN),
        "attn_k": (HIDDEN // 2, HIDDEN),
        "attn_v": (HIDDEN // 2, HIDDEN),
    }
    square = (EXPERTS, HIDDEN, HIDDEN), (HIDDEN, HIDDEN)
    tensors = {
        name if name in ("token_embd", "output") else f"blk.0.{name}": blocks(
            random, kind, *shapes.get(name, square[not name.endswith("_exps")])
        )
        for name, kind in types.items()
    }
    norms = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")
    tensors |= {name: plain(random.uniform(0.5, 1.5, HIDDEN)) for name in norms}
    if mixture:
        tensors["blk.0.ffn_gate_inp"] = plain(random.normal(size=(EXPERTS, HIDDEN)))
    experts = {"expert_count": Uint32(EXPERTS), "expert_used_count": Uint32(2)} if mixture else {}
    metadata: dict[str, Any] = {
        "block_count": Uint32(1),
        "context_length": Uint32(256),
        "embedding_length": Uint32(HIDDEN),
        "feed_forward_length": Uint32(HIDDEN),
        "attention.head_count": Uint32(4),
        "attention.head_count_kv": Uint32(2),
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "rope.dimension_count": Uint32(64),
        "vocab_size": Uint32(TOKENS),
        **experts,
    }
    letters = vocabulary([f"t{i}" for i in range(TOKENS)], [1] * TOKENS, "gpt-2", [])
    named = {f"llama.{name}": thing for name, thing in metadata.items()}
    return write(
        path, {**letters, **named}, {f"{name}.weight": raw for name, raw in tensors.items()}
    )


@pytest.mark.parametrize("types", [DENSE, MIXED], ids=["dense", "mixed"])
def test_logits_are_those_of_the_definition(
    types: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts are restored, or go through tiles of experts; then rows by themselves and together.

    Activations are in float32 for once, so that what differs is a fault.
    """
    monkeypatch.setattr(
        "bessemer.engine.checkpoint.weights.stored_dtype", lambda checkpoint: mx.float32
    )
    path = model_file(tmp_path / "tiny.gguf", types)
    random = np.random.RandomState(0)
    requests = [
        request_for(number, random.randint(0, TOKENS, size).tolist(), count, ignore_eos=True)
        for number, (size, count) in enumerate(((70, 16), (20, 6)))
    ]
    with using(Nowhere()):
        reference = load(path, Reading(exact=True))
    with using(Simulator(SimulatorOptions(mode="fast"))), watching() as launches:
        out = served(load(path, Reading(exact=True)), "tail", 96, requests)
    for one, other in compared(out, reference, requests):
        assert np.abs(one - other).max() <= 1e-3 * np.abs(other).max()
    ran = {launch.source.name for launch in launches}
    assert {"linear", "linear_rows", "embedding"} <= ran
    assert types is DENSE or {"moe_inner", "moe_outer", "moe_inner_tiles", "moe_combine"} <= ran
