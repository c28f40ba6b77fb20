"""The gated norm against transformers' two, and its definition, on every path."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.norm.gated_norm import GatedNorm, gated_norm, gated_norm_reference

from ..arrays import close, normal, same
from ..tiers import PATHS, use

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "gated_norm.npz")
TOLERANCES = {mx.float32: 1e-5, mx.float16: 2e-3, mx.bfloat16: 2e-2}


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


@pytest.mark.parametrize(
    ("name", "groups", "gate_first"),
    [("gate_first", int(GOLDEN["parts"]), True), ("norm_first", 1, False)],
)
def test_transformers_says_the_same(name: str, groups: int, gate_first: bool) -> None:
    y, gate, weight = (mx.array(GOLDEN[each]) for each in ("y", "gate", "weight"))
    out = gated_norm(y, gate, GatedNorm(weight, float(GOLDEN["eps"]), groups, gate_first))
    assert np.array(out) == pytest.approx(GOLDEN[name], abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "groups"), [((1, 1), 1), ((3, 14), 2), ((2, 5, 37), 1), ((40, 600), 5), ((1, 64), 4)]
)
@pytest.mark.parametrize("gate_first", [False, True])
def test_against_the_definition(shape: tuple[int, ...], groups: int, gate_first: bool) -> None:
    y, gate, weight = normal(*shape), normal(*shape, seed=1) * 3, normal(shape[-1], seed=2)
    out = gated_norm(y, gate, GatedNorm(weight, 0.02, groups, gate_first))
    assert out.shape == y.shape
    assert close(out, gated_norm_reference(y, gate, GatedNorm(weight, 0.02, groups, gate_first)))
    for i in range(len(y)):
        alone = gated_norm(
            y[i : i + 1], gate[i : i + 1], GatedNorm(weight, 0.02, groups, gate_first)
        )
        assert same(alone, mx.contiguous(out[i : i + 1]))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("groups", "gate_first"), [(3, True), (1, False)])
def test_formats(dtype: mx.Dtype, groups: int, gate_first: bool) -> None:
    """A weight of the format alone, and all in it; also where the norm is a Metal kernel's."""
    wide, gate, weight = normal(4, 45), normal(4, 45, seed=1), normal(45, seed=2).astype(dtype)
    oracle = gated_norm_reference(wide, gate, GatedNorm(weight, 0.02, groups, gate_first))
    assert close(gated_norm(wide, gate, GatedNorm(weight, 0.02, groups, gate_first)), oracle)
    y, narrow = wide.astype(dtype), gate.astype(dtype)
    oracle = gated_norm_reference(y, narrow, GatedNorm(weight, 0.02, groups, gate_first))
    with using(Simulator(SimulatorOptions(mode="check"))):
        simulated = gated_norm(y, narrow, GatedNorm(weight, 0.02, groups, gate_first))
    for out in (gated_norm(y, narrow, GatedNorm(weight, 0.02, groups, gate_first)), simulated):
        assert out.dtype == dtype
        assert close(out.astype(mx.float32), oracle.astype(mx.float32), TOLERANCES[dtype])


def test_parts_and_rows_of_another_array() -> None:
    """A layer has them so: slices of a projection's columns."""
    both, weight = normal(5, 80), normal(40, seed=2)
    y, gate = mx.split(both, 2, axis=-1)
    assert close(
        gated_norm(y, gate, GatedNorm(weight, 1e-5, 2, True)),
        gated_norm_reference(y, gate, GatedNorm(weight, 1e-5, 2, True)),
    )


def test_no_rows() -> None:
    nothing = mx.zeros((0, 8))
    assert gated_norm(nothing, nothing, GatedNorm(mx.ones((8,)), 1e-5, 2, True)).shape == (0, 8)
