"""mlx_lm's names and layout, by its sanitize functions; whole families are in test_quantize."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from bessemer.architectures.storage import MlxLm
from bessemer.engine.checkpoint.checkpoint import Checkpoint, read_headers
from bessemer.engine.checkpoint.mlx_layout import MlxTensor, SourceCheckpoint, mlx_tensors
from bessemer.engine.checkpoint.weight_files import SINGLE

LAYER = "model.layers.0"


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def arranged(
    path: Path, arrays: dict[str, np.ndarray], **mlx_lm: Any
) -> tuple[dict[str, MlxTensor], dict[str, np.ndarray]]:
    """The new tensors by name, and what they hold: each shape is the one that was promised."""
    save_file(arrays, path / SINGLE)
    config: Any = SimpleNamespace(mlx_lm=MlxLm(**mlx_lm), unused=(r"mtp\.",))
    checkpoint = Checkpoint(path, {}, read_headers(path / SINGLE))
    tensors = {each.name: each for each in mlx_tensors(SourceCheckpoint(checkpoint, config))}
    values = {name: [np.array(read()) for read in each.reads] for name, each in tensors.items()}
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
    _, values = arranged(tmp_path, arrays)
    name = f"{LAYER}.mlp.switch_mlp.down_proj"
    assert (values[f"{name}.weight"] == blocks.reshape(2, 3, 80).view(np.uint32)).all()
    assert (values[f"{name}.scales"] == scales).all() and len(values) == 2


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
