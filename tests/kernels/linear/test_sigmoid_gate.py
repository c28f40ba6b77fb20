"""A gate beside its definition, on every path."""

import mlx.core as mx
import pytest

from bessemer.kernels.linear.sigmoid_gate import sigmoid_gate, sigmoid_gate_reference

from ..arrays import close, normal, same
from ..tiers import PATHS, use


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 37), (5, 4096)])
def test_a_gate(shape: tuple[int, int], path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, path)
    x, gates = normal(*shape), normal(*shape, seed=1) * 5
    out = sigmoid_gate(x, gates)
    assert out.shape == shape and sigmoid_gate(x[:0], gates[:0]).shape == (0, shape[1])
    assert close(out, x / (1 + mx.exp(-gates))) and close(out, sigmoid_gate_reference(x, gates))
    for row in range(shape[0]):
        alone = sigmoid_gate(x[row : row + 1], gates[row : row + 1])
        assert same(alone, out[row : row + 1])
