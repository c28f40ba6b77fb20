"""Blocks taken apart in C are what NumPy makes of them, which is held to the gguf package."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.gguf.block_types import TYPES as KINDS
from bessemer.engine.gguf.blocks import BLOCKS
from bessemer.engine.gguf.codebooks import CODEBOOKS
from bessemer.kernels.cpu import library
from bessemer.kernels.linear import blocks
from bessemer.kernels.linear.blocks import FILES, TYPES, take_apart
from bessemer.kernels.linear.weight import arrays_of


def in_numpy(name: str, raw: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> list[mx.array]:
    with monkeypatch.context() as context:
        context.setattr(blocks, "host_library", lambda _: None)
        return [*arrays_of(BLOCKS[name].matrix(raw))]


def test_all_types_of_codes_are_known_by_the_numbers_of_files() -> None:
    assert TYPES.keys() == BLOCKS.keys() - CODEBOOKS.keys()
    assert all(KINDS[number].name == name for name, number in TYPES.items())


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 256), (3, 768), (260, 1024)])
def test_every_byte_may_be_anything(
    name: str, rows: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = BLOCKS[name].type
    shape = rows, columns // kind.values * kind.bytes
    raw = np.random.default_rng(rows).integers(0, 256, shape, np.uint8)
    expected = in_numpy(name, raw, monkeypatch)
    found = take_apart(name, raw, kind.bytes, in_numpy(name, raw[:1, : kind.bytes], monkeypatch))
    assert found is not None and len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert mx.array_equal(ours.view(mx.uint8), theirs.view(mx.uint8))


def test_types_that_are_widened_are_left_to_numpy() -> None:
    assert take_apart("IQ1_S", np.zeros((1, 50), np.uint8), 50, []) is None


def test_beside_a_gpu_it_is_compiled_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing else of C runs, and no library of all kernels is built."""
    on_cpu = mx.default_device()
    monkeypatch.setattr(library, "library", lambda: pytest.fail("it was asked for"))
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.DeviceType.gpu))
    library.host_library.cache_clear()
    try:
        loaded = library.host_library(FILES)
        assert loaded is not None and not hasattr(loaded.handle, "op_pack")
        assert loaded.function("op_blocks") is not None and on_cpu.type == mx.DeviceType.cpu
    finally:
        library.host_library.cache_clear()


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[str]:
        raise library.CompileError("there is no C compiler")

    monkeypatch.setattr(library, "tiers", refuse)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.DeviceType.gpu))
    library.host_library.cache_clear()
    try:
        assert library.host_library(FILES) is None
    finally:
        library.host_library.cache_clear()
