"""What the converter did to tensors is undone; test_families.py compares whole models."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.checkpoint.weights import FLOATS, widening
from bessemer.engine.gguf.block_types import TYPES
from bessemer.engine.gguf.container import Gguf, GgufTensor, read_gguf
from bessemer.engine.gguf.family import Change
from bessemer.engine.gguf.tensors import (
    COLUMNS,
    NUMBERS,
    ROWS,
    SHAPES,
    Source,
    _source,
    gguf_tensors,
    mapped,
)
from bessemer.kernels.linear.weight import arrays_of, widen

from .make_golden import GOLDEN
from .writer import Raw, Uint32, write

SIZES = {
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "ssm.group_count": 2,  # of keys
    "ssm.time_step_rank": 6,  # of values
    "ssm.state_size": 3,
}
ABOUT = Gguf(
    Path("m"),
    {"general.architecture": "any", **{f"any.{name}": size for name, size in SIZES.items()}},
    {},
)
NUMBERED = np.arange(48)
GROUPED = NUMBERED.reshape(2, 3, 8)  # by heads of keys, heads of values
# What llama.cpp's converter does to rows: permute, and _reorder_v_heads.
CONVERTED: dict[Change, np.ndarray] = {
    "paired": NUMBERED.reshape(4, 2, 6).swapaxes(1, 2),
    "paired_keys": NUMBERED.reshape(2, 2, 12).swapaxes(1, 2),
    "tiled": GROUPED.swapaxes(0, 1),
    "tiled_values": np.concatenate([
        NUMBERED[:12], NUMBERED[12:].reshape(2, 3, 6).swapaxes(0, 1).reshape(-1)
    ]),
}  # fmt: skip
# The rows of what holds several tensors one below the other, by thirds or by heads of keys.
PARTS: dict[Change, list[int]] = {
    "first": [0, 1, 2, 3],
    "second": [4, 5, 6, 7],
    "third": [8, 9, 10, 11],
    "betas": [0, 1, 2, 6, 7, 8],
    "alphas": [3, 4, 5, 9, 10, 11],
}


@pytest.mark.parametrize("change", ROWS)
def test_rows_come_back_as_the_converter_took_them(change: Change) -> None:
    if change in PARTS:
        assert ROWS[change](ABOUT, 12).tolist() == PARTS[change]
    else:
        rows = CONVERTED[change].reshape(-1)
        assert rows[ROWS[change](ABOUT, 48)].tolist() == NUMBERED.tolist()


def test_numbers_that_change_are_not_in_blocks(tmp_path: Path) -> None:
    """No converter writes them so; a file that has them is refused, not a KeyError."""
    said = {"general.architecture": "gemma", "gemma.block_count": Uint32(1)}
    path = write(tmp_path / "m.gguf", said, {"output_norm.weight": Raw((32,), 2, bytes(18))})
    assert gguf_tensors(path)["model.norm.weight"].dtype == "Q4_0"


def test_other_ways_back() -> None:
    columns = GROUPED.swapaxes(0, 1).reshape(-1)
    assert columns[COLUMNS["tiled_columns"](ABOUT, 48)].tolist() == NUMBERED.tolist()
    assert SHAPES["flat"]((1, 4, 1)) == (4,) and SHAPES["convolution"]((8, 3)) == (8, 3, 1)
    numbers = mx.array([-2.0, 0.5, 3.0])
    assert NUMBERS["shifted"](numbers + 1).tolist() == numbers.tolist()
    assert mx.allclose(NUMBERS["decay"](-mx.exp(numbers)), numbers)


F32 = TYPES[0]


# Of a tensor as it is in a file: its shape in layers, and what is done to rows and columns.
@pytest.mark.parametrize(
    ("shape", "changes", "became", "rows", "columns"),
    [
        ((48, 5), (), (48, 5), None, None),
        ((12, 5), ("second",), (4, 5), PARTS["second"], None),
        ((48,), ("tiled", "decay"), (48,), ROWS["tiled"](ABOUT, 48), None),
        (
            (48, 4),
            ("tiled_values", "convolution"),
            (48, 4, 1),
            ROWS["tiled_values"](ABOUT, 48),
            None,
        ),
        ((5, 12), ("tiled_columns",), (5, 12), None, [0, 2, 4, 1, 3, 5]),
        ((4, 1), ("flat", "decay"), (4,), None, None),
    ],
)
def test_what_is_said_of_a_tensor(
    shape: tuple[int, ...], changes: Any, became: tuple[int, ...], rows: Any, columns: Any
) -> None:
    source = _source(ABOUT, GgufTensor(Path("m"), "w", shape, F32, 0), changes)
    assert source.shape == became and (source.undone is None) == ("decay" not in changes)
    assert (source.rows is None) == (rows is None)
    assert rows is None or source.rows.tolist() == [*rows]  # type: ignore[union-attr]
    assert (source.columns is None) == (not columns)
    assert not columns or source.columns.tolist() == columns  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("shape", "change", "said"),
    [
        ((6, 5), "paired", "a tensor of 6 rows or columns, .* divide into 8"),
        ((8, 5), "second", "a tensor of 8 rows or columns, .* divide into 3"),
        ((10, 5), "tiled_values", "a tensor of 10 rows or columns, .* divide into 12"),
        ((5, 10), "tiled_columns", "a tensor of 10 rows or columns, .* divide into 6"),
    ],
)
def test_heads_that_do_not_divide_a_tensor(
    shape: tuple[int, ...], change: Change, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        _source(ABOUT, GgufTensor(Path("m"), "w", shape, F32, 0), [change])


def test_all_rows_may_be_queries_and_keys() -> None:
    assert ROWS["tiled_values"](ABOUT, 12).tolist() == [*range(12)]


def test_a_numbered_row_of_each_vector_is_turned(tmp_path: Path) -> None:
    """A vector's numbers are its rows."""
    (tmp_path / "weights").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    tensor = GgufTensor(tmp_path / "weights", "w", (4,), F32, 0)
    assert Source(tensor, (4,), rows=np.array([2, 0, 3, 1])).array().tolist() == [2, 0, 3, 1]


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights cannot be read \(No such file"):
        mapped(GgufTensor(tmp_path / "weights", "w", (4,), F32, 0))


@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_factors_of_positions_are_no_tensors_of_layers(name: str) -> None:
    path = GOLDEN / f"{name}.gguf"
    assert any(each.startswith("rope_f") for each in read_gguf(path).tensors)
    names = gguf_tensors(path)
    assert not any("rope" in each for each in names)
    assert "model.norm.weight" in names and "model.layers.1.self_attn.o_proj.weight" in names


@pytest.mark.parametrize(
    ("name", "type", "said"),
    [
        ("blk.0.attn_q.weight", 24, r"holds blk\.0\.attn_q\.weight as I8, which is not read here"),
        ("blk.0.ssm_a", 0, r"has the tensor blk\.0\.ssm_a, which llama does not have here"),
        ("other", 0, "has the tensor other, which llama does not have here"),
    ],
)
def test_tensors_that_are_refused(name: str, type: int, said: str, tmp_path: Path) -> None:
    about: dict[str, Any] = {"general.architecture": "llama", "llama.block_count": Uint32(1)}
    path = write(tmp_path / "m.gguf", about, {name: Raw((4, 4), type, bytes(64))})
    with pytest.raises(CheckpointError, match=said):
        gguf_tensors(path)


def test_layers_that_predict_further_tokens_are_not_read() -> None:
    gguf = read_gguf(GOLDEN / "glm4_moe.gguf")
    assert gguf.value("block_count") == 3
    assert "blk.2.nextn.shared_head_norm.weight" in gguf.tensors
    names = gguf_tensors(gguf.path)
    assert not any(name.startswith("model.layers.2.") for name in names)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_numbers_are_read_in_their_order_and_undone(name: str, tmp_path: Path) -> None:
    type = next(each for each in TYPES.values() if each.name == name)
    numbers = mx.arange(1, 9).reshape(2, 4).astype(FLOATS[name])
    (tmp_path / "weights").write_bytes(np.array(numbers.view(mx.uint8)).tobytes())
    tensor = GgufTensor(tmp_path / "weights", "w", (2, 4), type, 0)
    turned = np.array([1, 0])
    assert mx.array_equal(Source(tensor, (2, 4)).array(), numbers)
    assert mx.array_equal(Source(tensor, (2, 4), rows=turned).array(), numbers[::-1])
    moved = Source(tensor, (2, 4), columns=turned, undone=mx.negative)
    assert moved.array().tolist() == [[-3, -4, -1, -2], [-7, -8, -5, -6]]
    assert (moved.dtype, moved.bytes) == ("F32", 32)
    assert Source(tensor, (2, 4)).bytes == numbers.nbytes


# Heads of a superblock, and of a half of one.
HALVED = [(name, columns) for name in ("Q4_K", "Q6_K", "IQ4_XS") for columns in (512, 256)]


@pytest.mark.parametrize(("name", "columns"), [("Q4_0", 64), ("Q8_0", 64), *HALVED])
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
