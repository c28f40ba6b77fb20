"""What the converter did to tensors is undone; test_families.py compares whole models."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.checkpoint.weights import widening
from bessemer.engine.gguf.block_types import TYPES
from bessemer.engine.gguf.container import GgufTensor, read_gguf
from bessemer.engine.gguf.tensors import Source, gguf_tensors
from bessemer.kernels.linear.weight import arrays_of, widen

from .make_golden import GOLDEN
from .writer import Raw, Uint32, write


def test_layers_that_predict_further_tokens_are_not_read() -> None:
    gguf = read_gguf(GOLDEN / "glm4_moe.gguf")
    assert gguf.value("block_count") == 3
    assert "blk.2.nextn.shared_head_norm.weight" in gguf.tensors
    names = gguf_tensors(gguf.path)
    assert not any(name.startswith("model.layers.2.") for name in names)


# Heads of a superblock, and of a half of one.
PARTS = [(name, columns) for name in ("Q4_K", "Q6_K", "IQ4_XS") for columns in (512, 256)]


@pytest.mark.parametrize(("name", "columns"), [("Q4_0", 64), ("Q8_0", 64), *PARTS])
def test_columns_of_codes_in_another_order(name: str, columns: int, tmp_path: Path) -> None:
    """Heads of Qwen 3.5's values lie by turns, so the columns of what they lead to do too."""
    type = next(each for each in TYPES.values() if each.name == name)
    raw = np.random.default_rng(1).integers(
        0, 48, (8, columns // type.values, type.bytes), np.uint8
    )
    (tmp_path / "weights").write_bytes(raw.tobytes())
    tensor = GgufTensor(tmp_path / "weights", "w", (8, columns), type, 0)
    heads = np.array([1, 0])
    plain = widen(Source(tensor, tensor.shape).matrix(exact=True))
    source = Source(tensor, tensor.shape, columns=heads)
    weight = source.matrix(exact=True)
    assert source.bytes == sum(array.nbytes for array in arrays_of(weight))
    moved = widen(weight)
    half = columns // 2
    assert mx.array_equal(moved[:, :half], plain[:, half:])
    assert mx.array_equal(moved[:, half:], plain[:, :half])
    assert not mx.array_equal(moved, plain)


def test_a_group_wider_than_a_head_is_refused(tmp_path: Path) -> None:
    type = next(each for each in TYPES.values() if each.name == "Q8_0")
    (tmp_path / "weights").write_bytes(bytes(2 * type.bytes))
    tensor = GgufTensor(tmp_path / "weights", "blk.0.ssm_out.weight", (2, 32), type, 0)
    with pytest.raises(CheckpointError, match=r"blk\.0\.ssm_out\.weight as Q8_0, in groups of 32"):
        Source(tensor, tensor.shape, columns=np.array([1, 0])).matrix(exact=True)


def test_types_that_take_more_bits_say_so(tmp_path: Path) -> None:
    golden = np.load(GOLDEN / "blocks.npz")
    said: dict[str, Any] = {"general.architecture": "llama", "llama.block_count": Uint32(0)}
    lines = {}
    for name, number in {"Q8_0": 8, "IQ2_XS": 17}.items():
        table = Raw((256, 3), number, golden[f"{name}.raw"].tobytes())
        path = write(tmp_path / f"{name}.gguf", said, {"token_embd.weight": table})
        lines[name] = widening(open_checkpoint(path, {}))
    assert lines["Q8_0"] is None
    assert lines["IQ2_XS"] == (
        f"{tmp_path / 'IQ2_XS.gguf'}: its numbers in IQ2_XS are held exactly, but in more bits: "
        "1.15e-06 GB, in the file 2.22e-07"
    )
