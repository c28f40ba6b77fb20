"""mlx_lm's names and layout, by its sanitize functions; whole families are in test_quantize."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from bessemer.architectures.config import LatentConfig, Rope
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.storage import MlxLm, Quantization, Stored
from bessemer.engine.checkpoint.checkpoint import Checkpoint, read_headers
from bessemer.engine.checkpoint.mlx_layout import (
    SCALES,
    MlxTensor,
    SourceCheckpoint,
    mlx_tensors,
)
from bessemer.engine.checkpoint.weight_files import SINGLE

from ..quantized import label_fp8

LAYER = "model.layers.0"
BLOCK = (32, 64)  # of the golden 8-bit floats
FORMATS = Path(__file__).parents[2] / "kernels" / "golden" / "formats.npz"


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def widened(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)


def arranged(
    path: Path, arrays: dict[str, np.ndarray], mixer: Any = None, experts: Any = None, **mlx_lm: Any
) -> tuple[dict[str, MlxTensor], dict[str, np.ndarray]]:
    """The new tensors by name, and what they hold: each shape is the one that was promised."""
    save_file(arrays, path / SINGLE)
    for name in arrays:
        if name.endswith(SCALES):
            label_fp8(path / SINGLE, name.removesuffix(SCALES))
    blocks = [
        SimpleNamespace(mixer=None, experts=None),
        SimpleNamespace(mixer=mixer, experts=experts),
    ]
    config: Any = SimpleNamespace(mlx_lm=MlxLm(**mlx_lm), unused=(r"mtp\.",), blocks=blocks)
    config.quantization = Quantization(block=BLOCK)
    checkpoint = Checkpoint(path, {}, read_headers(path / SINGLE))
    tensors = {each.name: each for each in mlx_tensors(SourceCheckpoint(checkpoint, config))}
    values = {name: [widened(read()) for read in each.reads] for name, each in tensors.items()}
    assert all(
        part.shape == tensors[name].shape for name, parts in values.items() for part in parts
    )
    return tensors, {
        name: np.stack(parts).squeeze(0) if len(parts) == 1 else np.stack(parts)
        for name, parts in values.items()
    }


def test_experts_are_stacked_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    experts = {i: numbers(3, 4) + i for i in range(12)}
    arrays = {f"{LAYER}.mlp.experts.{i}.up_proj.weight": each for i, each in experts.items()}
    tensors, values = arranged(tmp_path, arrays)
    name = f"{LAYER}.mlp.switch_mlp.up_proj.weight"
    assert list(tensors) == [name] and tensors[name].module == name.removesuffix(".weight")
    assert (values[name] == np.stack([experts[i] for i in range(12)])).all()


def test_a_gate_above_its_up_projection_is_two_modules(tmp_path: Path) -> None:
    both, name = numbers(6, 4), f"{LAYER}.mlp.gate_up_proj.weight"
    rules = ((r"(.+)\.gate_up_proj\.weight", "gate_up"),)
    _, values = arranged(tmp_path, {name: both}, rules=rules)
    assert (values[f"{LAYER}.mlp.gate_proj.weight"] == both[:3]).all()
    assert (values[f"{LAYER}.mlp.up_proj.weight"] == both[3:]).all() and len(values) == 2


def test_blocks_of_four_bits_are_words_beside_their_scales(tmp_path: Path) -> None:
    random, old = np.random.default_rng(1), f"{LAYER}.mlp.experts.down_proj"
    blocks = random.integers(0, 256, (2, 3, 5, 16), np.uint8)
    scales = random.integers(0, 256, (2, 3, 5), np.uint8)
    arrays = {f"{old}_blocks": blocks, f"{old}_scales": scales}
    tensors, values = arranged(tmp_path, arrays)
    name = f"{LAYER}.mlp.switch_mlp.down_proj"
    assert (values[f"{name}.weight"] == blocks.reshape(2, 3, 80).view(np.uint32)).all()
    assert (values[f"{name}.scales"] == scales).all() and len(values) == 2
    assert {each.stored for each in tensors.values()} == {Stored(32, 4, "mxfp4")}


def test_gate_and_up_projection_alternate_in_blocks_of_four_bits(tmp_path: Path) -> None:
    random, old = np.random.default_rng(1), f"{LAYER}.mlp.experts.gate_up_proj"
    blocks = random.integers(0, 256, (2, 6, 5, 16), np.uint8)
    scales = random.integers(0, 256, (2, 6, 5), np.uint8)
    arrays = {f"{old}_blocks": blocks, f"{old}_scales": scales}
    moe = MoeConfig(2, 1, 3, alternating=True)
    _, values = arranged(tmp_path, arrays, experts=moe)
    for module, half in ("gate_proj", slice(0, None, 2)), ("up_proj", slice(1, None, 2)):
        name = f"{LAYER}.mlp.switch_mlp.{module}"
        words = blocks[:, half].copy().reshape(2, 3, 80).view(np.uint32)
        assert (values[f"{name}.weight"] == words).all()
        assert (values[f"{name}.scales"] == scales[:, half]).all() and len(values) == 4


def test_eight_bit_floats_are_bfloat16_without_their_scales(tmp_path: Path) -> None:
    """All codes, NaN among them, as torch reads them."""
    with np.load(FORMATS) as golden:
        codes, scales, oracle = golden["codes"], golden["scales"], golden["bfloat16"]
    arrays = {"a.weight": codes, f"a.weight{SCALES}": scales, "b.weight": numbers(2, 2)}
    arrays["c.weight"] = np.ones((2, 2), np.uint8)
    tensors, values = arranged(tmp_path, arrays)
    floating = {name: each.floating for name, each in tensors.items()}
    assert floating == {"a.weight": True, "b.weight": True, "c.weight": False}
    assert np.array_equal(values["a.weight"], oracle, equal_nan=True)
    assert values["c.weight"].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("transposed", [False, True])
def test_experts_of_one_tensor_have_outputs_before_inputs(transposed: bool, tmp_path: Path) -> None:
    moe = MoeConfig(2, 1, 3, transposed=transposed)
    joint, down = numbers(2, 6, 4), numbers(2, 4, 3)  # (experts, outputs, inputs)
    as_stored = [x.swapaxes(1, 2).copy() if transposed else x for x in (joint, down)]
    names = [f"{LAYER}.mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")]
    arrays = dict(zip(names, as_stored, strict=True)) | {f"{names[0]}_bias": joint[:, :, 0].copy()}
    _, values = arranged(tmp_path, arrays, experts=moe)
    switch = f"{LAYER}.mlp.switch_mlp"
    assert (values[f"{switch}.down_proj.weight"] == down).all() and len(values) == 5
    for module, half in ("gate_proj", joint[:, :3]), ("up_proj", joint[:, 3:]):
        assert (values[f"{switch}.{module}.weight"] == half).all()
        assert (values[f"{switch}.{module}.bias"] == half[:, :, 0]).all()


def test_a_latents_expansion_is_split_by_head(tmp_path: Path) -> None:
    heads, rank, nope, value = 3, 5, 2, 4
    latent = LatentConfig(heads, 0, rank, nope, 1, value, 1.0, Rope(1))
    both, old = numbers(heads * (nope + value), rank), f"{LAYER}.self_attn.kv_b_proj.weight"
    rules = ((r"(.+)\.kv_b_proj\.weight", "latent"),)
    _, values = arranged(tmp_path, {old: both}, latent, rules=rules)
    keys = values[f"{LAYER}.self_attn.embed_q.weight"]
    out = values[f"{LAYER}.self_attn.unembed_out.weight"]
    assert keys.shape == (heads, rank, nope) and out.shape == (heads, value, rank)
    for head in range(heads):
        rows = both[head * (nope + value) :]
        assert (rows[:nope] == keys[head].T).all()
        assert (out[head] == rows[nope : nope + value]).all()


@pytest.mark.parametrize("width", [1, 4])
def test_a_convolution_has_its_channels_last(width: int, tmp_path: Path) -> None:
    kernel = numbers(5, 1, 4) if width > 1 else numbers(5, 4, 1)
    _, values = arranged(
        tmp_path, {"conv.weight": kernel}, rules=((r"conv\.weight", "convolution"),)
    )
    assert (values["conv.weight"] == kernel.reshape(5, 4, 1)).all()


def test_what_the_model_does_not_use_is_left_out(tmp_path: Path) -> None:
    arrays = {
        "mtp.norm.weight": numbers(4),
        "mtp.head.weight": numbers(4),
        "norm.weight": numbers(4),
    }
    tensors, _ = arranged(tmp_path, arrays, unused=r"mtp\.head")
    assert sorted(tensors) == ["mtp.head.weight", "norm.weight"]


@pytest.mark.parametrize(
    ("name", "shape", "floating", "quantizes"),
    [
        ("a.weight", (4, 4), True, True),
        ("a.weight", (2, 4, 4), True, True),
        ("a.weight", (4, 1, 4), True, False),  # a convolution's
        ("a.weight", (4,), True, False),
        ("a.bias", (4, 4), True, False),
        ("a.weight", (4, 4), False, False),
    ],
)
def test_what_can_be_quantized(
    name: str, shape: tuple[int, ...], floating: bool, quantizes: bool
) -> None:
    assert MlxTensor(name, shape, floating, ()).is_matrix is quantizes
