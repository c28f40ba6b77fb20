"""Experts that are stored in different ways: what is run as it is, and what is refused by name."""

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.layers.moe import MoE
from bessemer.architectures.registry import configure
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.model import load
from bessemer.kernels.linear.weight import Dense, Quantized, widen
from bessemer.kernels.moe.moe import moe_reference
from bessemer.kernels.norm.rms_norm import Norm
from tests.kernels.arrays import close, dense, normal, quantized

from ..held import Held
from ..parity import TOLERANCE, difference, tiny
from ..steps import prefill
from ..tiny import Tiny, prompts

COUNT, HIDDEN, WIDTH, SHARED = 3, 64, 32, 96
CHOICE = ".mlp.switch_mlp."


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("normed", [False, True])
def test_shared_experts_of_unequal_parts_keep_every_digit(gated: bool, normed: bool) -> None:
    """The up projection's values are more than 16 bits hold."""
    gate = replace(quantized(SHARED, HIDDEN, 64, 4), exact=True)
    up, down = Dense(normal(SHARED, HIDDEN) * 1e5), dense(HIDDEN, SHARED)
    shared_gate = dense(1, HIDDEN)
    matrices: dict[str, Dense | Quantized] = {
        "m.gate": dense(COUNT, HIDDEN),
        "m.switch_mlp.gate_proj": dense(COUNT * WIDTH, HIDDEN),
        "m.switch_mlp.up_proj": dense(COUNT * WIDTH, HIDDEN),
        "m.switch_mlp.down_proj": dense(COUNT * HIDDEN, WIDTH),
        "m.one.gate_proj": gate,
        "m.one.up_proj": up,
        "m.one.down_proj": down,
        "m.shared_expert_gate": shared_gate,
    }
    a, b, c = (
        mx.array(np.array(widen(each))) for each in (gate, up, down)
    )  # before they are packed
    config = MoeConfig(COUNT, 2, WIDTH, shared_width=SHARED, shared="one", shared_gate=gated)
    layer = MoE.load(Held(matrices), configure(tiny("qwen2_moe_shared").config), config, "m")
    x, residual, norm = normal(5, HIDDEN), normal(5, HIDDEN, seed=1), Norm(normal(HIDDEN), 1e-5)
    rows = norm(x) if normed else x
    inner = rows @ a.T
    shared = (inner * mx.sigmoid(inner) * (rows @ b.T)) @ c.T
    if gated:
        shared = shared * mx.sigmoid(rows @ shared_gate.weight.T)
    picks = layer.choose(rows, None)
    oracle = moe_reference(rows, layer.experts, picks, residual) + shared
    out = layer(x, norm if normed else None, residual)
    assert float(mx.abs(oracle).max()) > 65504
    assert close(out, oracle)


def one_by_one(name: str) -> Tiny:
    """The checkpoint of a golden file, each expert's matrices by themselves."""
    stacked = tiny(name)
    arrays = {name: value for name, value in stacked.tensors.items() if CHOICE not in name}
    for name, stack in stacked.tensors.items():
        if CHOICE in name:
            for expert, value in enumerate(stack):
                arrays[name.replace(CHOICE, f".mlp.experts.{expert}.")] = value.copy()
    return Tiny(stacked.config, arrays)


def test_experts_one_by_one_are_the_stack(tmp_path: Path) -> None:
    model = load(one_by_one("qwen2_moe_affine").write(tmp_path), Reading(exact=True))
    logits = [prefill(model, prompt) for prompt in prompts()]
    assert difference("qwen2_moe_affine", logits) <= TOLERANCE


def test_an_expert_unlike_the_first_is_refused_by_name(tmp_path: Path) -> None:
    checkpoint = one_by_one("qwen2_moe_affine")
    module = "model.layers.1.mlp.experts.3.up_proj"
    for part in ("scales", "biases"):
        del checkpoint.tensors[f"{module}.{part}"]
    checkpoint.tensors[f"{module}.weight"] = np.zeros((WIDTH, HIDDEN), np.float32)
    message = f"{module} is stored in another way than model.layers.1.mlp.experts.0.up_proj$"
    with pytest.raises(CheckpointError, match=message):
        load(checkpoint.write(tmp_path), Reading(exact=True))
