"""Weights as they are stored: rows of them, packing, and what can be joined."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.weight import (
    Dense,
    Quantized,
    from_mxfp4_blocks,
    inputs_of,
    is_whole_panels,
    pack,
    pack_pair,
    storage,
    take_rows,
    widen,
)
from bessemer.kernels.metal.device import Simulator, using
from bessemer.kernels.registry import activation_dtype, on_cpu

from ..arrays import GROUPS, dense, every_storage, floats, quantized, same
from ..tiers import NATIVE, PATHS, loaded, use

GOLDEN = Path(__file__).parents[1] / "golden" / "formats.npz"


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    use(monkeypatch, request.param)
    return request.param


@pytest.fixture(params=NATIVE)
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    use(monkeypatch, request.param)
    return request.param


@pytest.mark.parametrize("mode", [*GROUPS, "affine", "dense"])
def test_rows_are_taken_as_they_are_stored(path: str | None, mode: str) -> None:
    weight: Dense | Quantized
    if mode == "dense":
        weight = dense(40, 64, mx.bfloat16)
    elif mode == "affine":
        weight = quantized(40, 64, 32, 3)
    else:
        weight = floats(mode, 40, 64)  # type: ignore[arg-type]
    for rows in (np.arange(1, 40, 2), np.random.RandomState(0).permutation(40), np.arange(8, 12)):
        out = take_rows(weight, rows)
        assert storage(out) == storage(weight)
        assert out.outputs == len(rows)
        assert same(widen(out), mx.contiguous(widen(weight)[mx.array(rows)]))
        if mode != "dense":
            assert same(widen(pack(out)), mx.contiguous(widen(weight)[mx.array(rows)]))


def test_what_is_stored_unlike_is_told_apart() -> None:
    kinds = [floats(mode, 32, 64) for mode in GROUPS]
    kinds += [quantized(32, 64, 32, 4), quantized(32, 64, 32, 8), quantized(32, 64, 64, 8)]
    assert len({storage(kind) for kind in kinds}) == len(kinds)


def test_a_matrix_without_its_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None)
    weight = quantized(32, 64, 32, 4)
    assert pack(weight) is weight


def test_rows_of_an_odd_number_of_16_bit_values_are_not_joined(native: str) -> None:
    gate, up = dense(48, 319, mx.float16), dense(48, 319, mx.float16)
    assert pack_pair(gate, up) is None
    assert pack_pair(dense(48, 319), dense(48, 319)) is not None


def test_experts_of_gpt_oss() -> None:
    with np.load(GOLDEN) as golden:
        blocks, scales = mx.array(golden["expert_blocks"]), mx.array(golden["expert_scales"])
        oracle = golden["experts"]
    out = from_mxfp4_blocks(blocks, scales)
    assert out.weight.dtype == mx.uint32 and out.mode == "mxfp4"
    assert np.array_equal(np.array(widen(out)), oracle)
    odd = take_rows(out, np.arange(1, len(oracle), 2))  # gate and up lie in turns
    assert np.array_equal(np.array(widen(odd)), oracle[1::2])


def test_every_storage_is_restored_alike_packed_or_not(native: str) -> None:
    for weight, again in zip(every_storage(64, 256), every_storage(64, 256), strict=True):
        packed = pack(again)
        assert inputs_of(weight) == inputs_of(packed) == 256 and packed.outputs == 64
        assert same(widen(weight), widen(packed))


def test_panels_are_as_high_as_a_vector_is_long(native: str) -> None:
    lanes = loaded(native).lanes
    assert is_whole_panels(3 * lanes) and not is_whole_panels(3 * lanes + 1)


def test_a_cpu_computes_in_float32_and_a_gpu_as_stored() -> None:
    assert on_cpu() and activation_dtype(mx.bfloat16) == mx.float32
    with using(Simulator()):
        assert activation_dtype(mx.bfloat16) == mx.bfloat16
