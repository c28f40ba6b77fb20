"""The published mathematics of layers in plain numpy, float64, one token or head at a time."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]


def wide(x: ArrayLike) -> Array:
    return np.asarray(x, np.float64)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def rms(x: Array, weight: ArrayLike, eps: float) -> Array:
    """Root mean square norm of the last axis (arXiv 1910.07467)."""
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * wide(weight)


def layer_norm(x: Array, weight: ArrayLike, eps: float) -> Array:
    """Norm of the last axis with its mean taken away (arXiv 1607.06450)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return rms(centred, weight, eps)


def rotate(x: Array, theta: float, interleaved: bool = False) -> Array:
    """Rotary positions (arXiv 2104.09864) of (rows, heads, dims), row by row from position 0."""
    rows, _, dims = x.shape
    angles = np.arange(rows)[:, None, None] * theta ** (-np.arange(0, dims, 2) / dims)
    first, second = (slice(0, None, 2), slice(1, None, 2))
    if not interleaved:
        first, second = slice(0, dims // 2), slice(dims // 2, None)
    out = np.empty_like(x)
    out[..., first] = x[..., first] * np.cos(angles) - x[..., second] * np.sin(angles)
    out[..., second] = x[..., second] * np.cos(angles) + x[..., first] * np.sin(angles)
    return out


def attend(
    q: Array,
    k: Array,
    v: Array,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    two_way: bool = False,
) -> Array:
    """Attention of (rows, heads, dim) over as many keys; a group of heads shares a key's head."""
    rows, heads, _ = q.shape
    out = np.zeros((rows, heads, v.shape[2]))
    for row in range(rows):
        for head in range(heads):
            shared = head // (heads // k.shape[1])
            first = 0 if window is None else max(0, row - window + 1)
            seen = slice(first, rows if two_way else row + 1)
            scores = k[seen, shared] @ q[row, head] * scale
            scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
            out[row, head] = softmax(scores) @ v[seen, shared]
    return out.reshape(rows, -1)


def convolve(x: Array, weight: ArrayLike) -> Array:
    """Each channel of (rows, channels) with its (channels, width) weights, from zeros on."""
    channels, width = np.shape(weight)
    padded = np.concatenate([np.zeros((width - 1, channels)), x])
    return np.stack([(padded[i : i + width] * wide(weight).T).sum(axis=0) for i in range(len(x))])


def near(actual: object, oracle: Array, tolerance: float = 2e-5) -> bool:
    """The largest difference against the largest value."""
    difference = np.abs(wide(np.array(actual)) - oracle).max()
    return bool(difference <= tolerance * np.abs(oracle).max())
