"""Attention in both directions against its definition, on every path."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.encoder_attention import (
    ROWS,
    encoder_attention,
    encoder_attention_mlx,
    encoder_attention_reference,
)
from bessemer.kernels.cpu.library import compiled

from ..arrays import close, normal, same
from ..tiers import PATHS, use

LENGTHS = (1, 2, 63, 64, 65, 65, 130, ROWS + 70)
WINDOWS = (None, 0, 1, 5, 64, 100, 1000)


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


def case(heads: int, dim: int, lengths: tuple[int, ...] = LENGTHS) -> mx.array:
    return normal(sum(lengths), 3 * heads * dim)


@pytest.mark.parametrize(("heads", "dim"), [(1, 1), (3, 10), (2, 16), (1, 32), (2, 40), (1, 64)])
def test_everything_is_seen(heads: int, dim: int) -> None:
    x, scale = case(heads, dim), 2 * dim**-0.5
    out = encoder_attention(x, heads, scale, LENGTHS)
    assert out.shape == (sum(LENGTHS), heads * dim) and out.dtype == mx.float32
    assert close(out, encoder_attention_reference(x, heads, scale, LENGTHS))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("biased", [False, True])
def test_a_window_and_a_bias_by_distance(window: int | None, biased: bool) -> None:
    heads, dim = 3, 24
    x, scale = case(heads, dim), 2 * dim**-0.5
    bias = 3 * normal(heads, 2 * max(LENGTHS) - 1, seed=1) if biased else None
    out = encoder_attention(x, heads, scale, LENGTHS, window, bias)
    assert close(out, encoder_attention_reference(x, heads, scale, LENGTHS, window, bias))


@pytest.mark.parametrize("window", [None, 5, 64])
def test_company_changes_nothing(window: int | None) -> None:
    heads, dim = 2, 32
    x, bias = case(heads, dim), normal(heads, 2 * max(LENGTHS) - 1, seed=1)
    together = encoder_attention(x, heads, 0.3, LENGTHS, window, bias)
    start = 0
    for length in LENGTHS:
        rows = slice(start, start + length)
        less = bias[:, max(LENGTHS) - length : max(LENGTHS) + length - 1]
        alone = encoder_attention(x[rows], heads, 0.3, [length], window, less)
        equal = same if compiled() else close
        assert equal(alone, together[rows])
        start += length


def test_the_reference_is_a_mean_of_values_by_hand() -> None:
    """Two heads of one dimension, three rows, a window of one."""
    q, k, v = (
        np.array([[1.0, 0], [0, 2], [1, 1]]),
        np.array([[0, 1], [1, 1], [2.0, 0]]),
        np.eye(3, 2),
    )
    x = mx.array(np.concatenate([q, k, v], axis=1).astype(np.float32))
    out = np.array(encoder_attention_reference(x, 2, 1.0, [3], 1))
    for row in range(3):
        for head in range(2):
            seen = range(max(0, row - 1), min(3, row + 2))
            weights = np.exp([q[row, head] * k[j, head] for j in seen])
            value = sum(w * v[j, head] for w, j in zip(weights, seen, strict=True)) / weights.sum()
            assert out[row, head] == pytest.approx(value, rel=1e-6)


def test_scores_of_any_size() -> None:
    x = case(2, 16, (70,)) * 100
    out = encoder_attention(x, 2, 1.0, (70,))
    assert close(out, encoder_attention_reference(x, 2, 1.0, (70,)))
    assert bool(mx.isfinite(encoder_attention(x * 1e8, 2, 1.0, (70,), 3)).all())


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_16_bits(dtype: mx.Dtype) -> None:
    x = case(2, 32).astype(dtype)
    bias = normal(2, 2 * max(LENGTHS) - 1, seed=1)
    out = encoder_attention(x, 2, 0.2, LENGTHS, 70, bias)
    assert out.dtype == dtype
    oracle = encoder_attention_reference(x.astype(mx.float32), 2, 0.2, LENGTHS, 70, bias)
    assert close(out.astype(mx.float32), oracle, 0.02)


def test_no_rows() -> None:
    assert encoder_attention(mx.zeros((0, 96)), 2, 0.2, []).shape == (0, 32)


def test_neighbours_of_one_length_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is padded: each run of equal lengths is a call, and each stretch of rows."""
    calls: list[tuple[int, ...]] = []
    attend = mx.fast.scaled_dot_product_attention

    def counted(q: mx.array, k: mx.array, v: mx.array, **rest: object) -> mx.array:
        calls.append((q.shape[0], q.shape[2], k.shape[2]))
        return attend(q, k, v, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", counted)
    lengths = [4, 4, 4, 7, ROWS + 1]
    encoder_attention_mlx(case(2, 8, tuple(lengths)), 2, 0.3, lengths, 2)
    assert calls == [(3, 4, 4), (1, 7, 7), (1, ROWS, ROWS + 1), (1, 1, 3)]
