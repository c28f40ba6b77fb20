"""GGUF's container: what is read is what was written, and what is not sound is refused."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.gguf import container
from bessemer.engine.gguf.container import Gguf, Texts, gguf_files, opened, read_gguf, shortest
from bessemer.engine.gguf.tensors import mapped

from .writer import Raw, Uint32, content, string, write

F32, Q4_0 = 0, 2
SAID: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": Uint32(2),
    "llama.eps": 1e-5,
    "flag": True,
    "words": ["a", "\u00e9", ""],
    "numbers": [Uint32(1), Uint32(7)],
    "nothing": [],
}
NUMBERS = np.arange(6, dtype=np.float32)
TENSORS = {
    "a": Raw((3, 2), F32, NUMBERS.tobytes()),
    "b": Raw((32,), Q4_0, bytes(range(18))),
}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_gguf(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("version", [2, 3])
def test_what_was_written(tmp_path: Path, version: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content(SAID, TENSORS, version))
    gguf = read_gguf(path)
    assert gguf.metadata == SAID | {"llama.block_count": 2, "numbers": [1, 7]}
    assert gguf.architecture == "llama" and gguf.value("block_count") == 2
    assert gguf.value("eps") == 1e-5  # not the float32 next to it
    assert gguf.value("none") is None
    assert gguf.tensors.keys() == {"a", "b"}
    assert gguf.tensors["a"].shape == (2, 3) and gguf.numbers("a") == NUMBERS.tolist()
    assert gguf.tensors["b"].type.name == "Q4_0"
    assert gguf.tensors["b"].read() == mapped(gguf.tensors["b"]).tobytes() == bytes(range(18))
    assert gguf_files(path) == (path,)


LARGEST = 3.4028234663852886e38
NINE_DIGITS = 16777217.3 / 2**24


@pytest.mark.parametrize(
    "value", [1e-5, 1e6, 0.1, -2.5, 0.0, LARGEST, -LARGEST, 1 / 3, NINE_DIGITS, float("inf")]
)
def test_numbers_of_fewest_digits(value: float) -> None:
    small = np.float32(value)
    assert shortest(float(small)) == float(str(small))


def one_field(kind: int, raw: bytes) -> bytes:
    """The smallest file with a value: its name is empty, and nothing follows it."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("") + struct.pack("<I", kind) + raw


# The specification's types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (0, b"\xff", 255),
        (1, b"\xff", -1),
        (2, b"\xff\xfe", 0xFEFF),
        (3, b"\xff\xfe", -257),
        (4, b"\xff\xff\xff\xfe", 0xFEFFFFFF),
        (5, b"\xff\xff\xff\xfe", -0x1000001),
        (6, b"\0\0\xc0\x3f", 1.5),
        (7, b"\1", True),
        (8, string("a\u00e9"), "a\u00e9"),
        (9, struct.pack("<IQ", 8, 3) + string("ab") + string("c") + string(""), ["ab", "c", ""]),
        (9, struct.pack("<IQ", 3, 2) + b"\1\0\xff\xff", [1, -1]),
        (10, b"\xff" * 8, 2**64 - 1),
        (11, b"\xfe" + b"\xff" * 7, -2),
        (12, struct.pack("<d", 1 / 3), 1 / 3),
    ],
)
def test_values_of_all_types(tmp_path: Path, kind: int, raw: bytes, value: Any) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(one_field(kind, raw))
    read = read_gguf(path).metadata[""]
    assert read == value and isinstance(value, list) | (type(read) is type(value))


def test_texts_are_a_list(tmp_path: Path) -> None:
    """Also those that are no UTF-8, whose bytes come back."""
    path, words = tmp_path / "m.gguf", ["a", "\u00e9", "", "b" * 300, "z"]
    path.write_bytes(content({"words": words}).replace(b"z", b"\xff"))
    texts, words = read_gguf(path).metadata["words"], [*words[:-1], "\udcff"]
    assert isinstance(texts, Texts) and len(texts) == 5
    assert [texts[place] for place in range(-5, 5)] == words * 2
    assert (texts[1:4], texts[::-2]) == (words[1:4], words[::-2])
    assert texts == words == [*texts] and texts != words[:4] and texts != 5
    for beyond in (5, -6):
        with pytest.raises(IndexError):
            texts[beyond]


def test_a_tensor_of_no_dimensions_and_one_of_four(tmp_path: Path) -> None:
    raw = {"a": Raw((), F32, bytes(4)), "b": Raw((1, 2, 3, 4), F32, bytes(96))}
    path = write(tmp_path / "m.gguf", {}, raw)
    shapes = {name: tensor.shape for name, tensor in read_gguf(path).tensors.items()}
    assert shapes == {"a": (), "b": (4, 3, 2, 1)}


def test_tensors_without_a_gap_or_a_byte_behind_them(tmp_path: Path) -> None:
    raw = {name: Raw((8,), F32, bytes(4 * 8)) for name in "ab"}
    raw["c"] = Raw((1,), F32, b"\0\0\x80\x3f")
    path = write(tmp_path / "m.gguf", {"general.alignment": Uint32(8)}, raw)
    path.write_bytes(path.read_bytes()[: 4 - 32])
    assert read_gguf(path).numbers("c") == [1.0]


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    whole, path = content(SAID, TENSORS), tmp_path / "m.gguf"
    for end in range(1, len(whole) - 31):  # the last tensor is followed by what fills it up
        path.write_bytes(whole[:end])
        assert "is no sound GGUF file" in refusal(path)


@settings(max_examples=300)
@given(st.integers(0, 300), st.binary(min_size=1, max_size=8))
def test_a_file_that_is_damaged_somewhere(place: int, other: bytes) -> None:
    whole = content(SAID, TENSORS)
    path = Path(f"/dev/shm/{place}.gguf") if Path("/dev/shm").is_dir() else Path(f"{place}.gguf")
    path.write_bytes(whole[:place] + other + whole[place + len(other) :])
    try:
        for tensor in read_gguf(path).tensors.values():
            mapped(tensor)
    except CheckpointError as error:
        assert "\n" not in str(error)
    finally:
        path.unlink()


def changed(place: int, code: str, value: int) -> Callable[[bytes], bytes]:
    raw = struct.pack(code, value)
    return lambda whole: whole[:place] + raw + whole[place + len(raw) :]


def listing(kind: int, count: int) -> bytes:
    """A file whose one field is said to be a list of so many values."""
    field = string("n") + struct.pack("<IIQ", 9, kind, count)
    return content({})[:16] + struct.pack("<Q", 1) + field + bytes(64)


def placed(offset: int) -> Callable[[bytes], bytes]:
    """Say of the second tensor that it lies there."""

    def change(whole: bytes) -> bytes:
        at = whole.index(string("b") + struct.pack("<I", 1)) + 9 + 4 + 8 + 4
        return whole[:at] + struct.pack("<Q", offset) + whole[at + 8 :]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: b"", "it is empty"),
        (lambda whole: b"GGML" + whole[4:], "does not begin with GGUF"),
        (changed(4, "<I", 1), "has GGUF's version 1, and 2 and 3 are read"),
        (changed(4, ">I", 3), "is a GGUF file for machines of the other byte order"),
        (changed(8, "<Q", 2**60), "it ends early"),
        (changed(16, "<Q", 2**60), "it ends early"),
        (lambda _: content({"general.alignment": 12}), "its alignment is 12"),
        (lambda _: content({"general.alignment": 0}), "its alignment is 0"),
        (lambda _: content({"general.alignment": -8}), "its alignment is -8"),
        (lambda _: content({"general.alignment": "8"}), "its alignment is '8'"),
        (lambda _: content({}, {"a": Raw((1,), 99, b"0000")}), "has the type 99, which is not"),
        (lambda _: content({}, {"a": Raw((31,), Q4_0, b"")}), "has 31 columns, in Q4_0's blocks"),
        (lambda _: content({}, {"a": Raw((), Q4_0, bytes(18))}), "has 1 columns, in Q4_0's"),
        (lambda _: content({}, {"a": Raw((1,) * 5, F32, b"0000")}), "has 5 dimensions"),
        (lambda _: content({}, {"a": Raw((2**40,), F32, b"")}), "it ends before its tensor a"),
        (lambda _: content({}, {"a": Raw((3, 0), F32, b"")}), "the tensor a has no numbers"),
        (
            lambda whole: whole.replace(string("flag"), string("llama.eps")),
            "it says llama.eps twice",
        ),
        (changed(24, "<Q", 2**62), "it ends early"),
        (lambda _: content({"n": [["a"], ["b"]]}), "it has lists in a list"),
        (lambda _: listing(F32, 2**25), "it has a list of 33554432 values"),
        (lambda _: listing(F32, 2**24), "it ends early"),
        (lambda _: one_field(9, struct.pack("<IQq", 8, 1, -1)), "it ends early"),
        (
            lambda whole: whole.replace(string("b") + b"\1\0\0\0", string("a") + b"\1\0\0\0"),
            "it has the tensor a twice",
        ),
        (lambda _: listing(77, 1), "it has values of type 77"),
        (placed(1), "the tensor b has its numbers at 1, off its place"),
        (placed(0), "its tensors a and b lie over each other"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], said: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(change(content(SAID, TENSORS)))
    assert said in refusal(path)


def parts(folder: Path, count: int = 2, **different: int) -> list[Path]:
    numbers = {"a": 0, "b": 1} | different
    return [
        write(
            folder / f"m-{place + 1:05}-of-{count:05}.gguf",
            {"split.no": Uint32(place), "split.count": Uint32(count), "of": place},
            {name: TENSORS[name] for name, at in numbers.items() if at == place},
        )
        for place in range(count)
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_a_model_in_several_files(tmp_path: Path, which: int) -> None:
    files = parts(tmp_path)
    gguf = read_gguf(files[which])
    assert gguf.metadata["of"] == 0  # the first one tells of the model
    assert {name: tensor.file for name, tensor in gguf.tensors.items()} == {
        "a": files[0],
        "b": files[1],
    }
    assert gguf_files(files[which]) == tuple(files)


def test_a_set_that_is_not_whole(tmp_path: Path) -> None:
    first, second = parts(tmp_path)
    second.unlink()
    assert f"{second} is missing, one of the 2 files" in refusal(first)
    second.mkdir()
    assert f"{second} is a directory, where a file was expected" in refusal(first)
    for name in ("m.gguf", "m-00001-of-00003.gguf"):
        first = first.rename(tmp_path / name)
        assert "is one of 2 files of a model" in refusal(first)


def test_a_set_of_no_files_is_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {"split.count": Uint32(0)}, TENSORS)
    assert read_gguf(path).tensors.keys() == {"a", "b"} and gguf_files(path) == (path,)


@pytest.mark.parametrize(
    "different",
    [
        {"split.no": Uint32(0)},
        {"split.no": Uint32(5)},
        {"split.no": None},
        {"split.count": Uint32(3)},
        {"split.count": None},
    ],
)
def test_files_that_are_not_of_one_set(tmp_path: Path, different: dict[str, Any]) -> None:
    first, second = parts(tmp_path)
    said = {"split.no": Uint32(1), "split.count": Uint32(2)} | different
    write(second, {k: v for k, v in said.items() if v is not None}, {"b": TENSORS["b"]})
    assert "are not of one model" in refusal(first)


def test_a_set_with_too_few_tensors(tmp_path: Path) -> None:
    first, _ = parts(tmp_path)
    said = {"split.no": Uint32(0), "split.count": Uint32(2), "split.tensors.count": Uint32(3)}
    write(first, said, {"a": TENSORS["a"]})
    assert "are not of one model" in refusal(first)


def test_fields_of_another_kind(tmp_path: Path) -> None:
    gguf = read_gguf(write(tmp_path / "m.gguf", SAID | {"llama.block_count": "two"}, TENSORS))
    with pytest.raises(CheckpointError) as caught:
        gguf.value("block_count")
    assert str(caught.value) == (
        f"{gguf.path}: llama.block_count is 'two', expected a number of things; fetch it again"
    )
    with pytest.raises(CheckpointError, match="holds b as Q4_0, not as F32"):
        gguf.numbers("b")
    with pytest.raises(CheckpointError, match="lacks the tensor c"):
        gguf.numbers("c")


def test_what_was_opened_is_kept_until_it_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    monkeypatch.setattr(container, "_read", lambda path: reads.append(path) or Gguf(path, {}, {}))
    files = [write(tmp_path / f"{name}.gguf", SAID) for name in "ab"]
    for file in files * 3:
        container.opened(file)
    assert reads == files  # of two models that are loaded together too
    container.forget()
    container.opened(files[0])
    assert reads == [*files, files[0]]


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    first, _ = parts(tmp_path)
    write(
        tmp_path / "m-00002-of-00002.gguf",
        {"split.no": Uint32(1), "split.count": Uint32(2)},
        {"a": TENSORS["a"]},
    )
    assert "both hold the tensor a" in refusal(first)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    assert refusal(path) == f"{path} is missing"
    with pytest.raises(CheckpointError, match="is missing"):
        opened(path)
    gguf = read_gguf(write(path, SAID, TENSORS))
    assert refusal(path / "m.gguf").endswith("cannot be read (Not a directory); check the name")
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        gguf.numbers("a")
    path.mkdir()
    assert refusal(path) == f"{path} is a directory, where a file was expected"


def test_texts_are_shown_in_errors(tmp_path: Path) -> None:
    gguf = read_gguf(write(tmp_path / "m.gguf", {"llama.block_count": ["two", "three"]}))
    with pytest.raises(CheckpointError, match=r"block_count is \['two', 'three'\], expected"):
        gguf.said("llama.block_count")
