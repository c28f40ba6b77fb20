"""Attention in both directions, over sequences of any lengths that lie one after the other."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, FLOAT, INT, VALUES, Function, array, output
from ..registry import Operation, in_c

ROWS = 256  # queries at a time where MLX holds all of their scores


@in_c("op_encoder_attention", VALUES, VALUES, ARRAY, *(INT,) * 5, FLOAT, ARRAY)
def _encoder_attention_c(
    native: Function,
    qkv: mx.array,
    heads: int,
    scale: float,
    lengths: Sequence[int],
    window: int | None = None,
    bias: mx.array | None = None,
) -> mx.array:
    assert sum(lengths) == qkv.shape[0] and all(length > 0 for length in lengths)
    rows, width = qkv.shape[0], qkv.shape[1] // 3
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    longest = 0 if bias is None else (bias.shape[1] + 1) // 2
    sizes = (len(lengths), heads, width // heads, longest, -1 if window is None else window)
    out = output(rows, width)
    native(qkv, bias, starts, *sizes, scale, out)
    return array(out)


def encoder_attention_reference(
    qkv: mx.array,
    heads: int,
    scale: float,
    lengths: Sequence[int],
    window: int | None = None,
    bias: mx.array | None = None,
) -> mx.array:
    """Define it in float32: sequence by sequence, all scores at once."""
    parts = mx.split(qkv.astype(mx.float32), np.cumsum(lengths)[:-1].tolist())
    outs = []
    for part in parts:
        length = part.shape[0]
        q, k, v = part.reshape(length, 3, heads, -1).transpose(1, 2, 0, 3)
        distance = mx.arange(length) - mx.arange(length)[:, None]
        scores = scale * q @ k.swapaxes(1, 2)
        if bias is not None:
            scores = scores + bias[:, distance + (bias.shape[1] - 1) // 2]
        if window is not None:
            scores = mx.where(mx.abs(distance) <= window, scores, -mx.inf)
        attended = mx.softmax(scores, axis=-1) @ v
        outs.append(attended.swapaxes(0, 1).reshape(length, -1))
    return mx.concatenate(outs).astype(qkv.dtype)


def encoder_attention_mlx(
    qkv: mx.array,
    heads: int,
    scale: float,
    lengths: Sequence[int],
    window: int | None = None,
    bias: mx.array | None = None,
) -> mx.array:
    """Compute it by MLX's own operations, for neighbours of one length at once."""
    assert sum(lengths) == qkv.shape[0] and all(length > 0 for length in lengths)
    outs, start = [], 0
    for length, alike in groupby(lengths):
        count = len(list(alike))
        stop = start + count * length
        rows = qkv[start:stop].reshape(count, length, 3, heads, -1).transpose(2, 0, 3, 1, 4)
        parts = [
            mx.fast.scaled_dot_product_attention(
                rows[0][:, :, queries],
                rows[1][:, :, keys],
                rows[2][:, :, keys],
                scale=scale,
                mask=_mask(queries, keys, window, bias, qkv.dtype),
            )
            for queries, keys in _spans(length, window)
        ]
        outs.append(mx.concatenate(parts, axis=2).swapaxes(1, 2).reshape(stop - start, -1))
        start = stop
    return mx.concatenate(outs) if outs else qkv[:, : qkv.shape[1] // 3]


def _spans(length: int, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Yield queries, and the keys that any of them sees."""
    seen = length if window is None else window
    for start in range(0, length, ROWS):
        stop = min(start + ROWS, length)
        yield slice(start, stop), slice(max(0, start - seen), min(length, stop + seen))


def _mask(
    queries: slice, keys: slice, window: int | None, bias: mx.array | None, dtype: mx.Dtype
) -> mx.array | None:
    """Return what is added to scores, (queries, keys) or with heads before; None for nothing."""
    sizes = (queries.stop - queries.start, keys.stop - keys.start)
    within = None if window is None else _window(*sizes, keys.start - queries.start, window)
    if bias is None:
        return within
    distance = np.arange(keys.start, keys.stop) - np.arange(queries.start, queries.stop)[:, None]
    added = bias[:, mx.array((distance + (bias.shape[1] - 1) // 2).astype(np.int32))]
    hidden = mx.array(-mx.inf)
    return (added if within is None else mx.where(within, added, hidden)).astype(dtype)


@lru_cache(maxsize=64)
def _window(queries: int, keys: int, offset: int, window: int) -> mx.array | None:
    """Mask the keys that a query sees, which begin `offset` further on; None: all."""
    distance = abs(np.arange(keys) + offset - np.arange(queries)[:, None]).astype(np.int32)
    return None if distance.max() <= window else mx.array(distance) <= window


# (rows, 3 * heads * head_dim), queries first, to (rows, heads * head_dim). A row sees `window` rows
# before and after itself, or all of its sequence. bias: (heads, 2 * longest - 1) float32, added to
# scores by how much further on a key is, 1 - longest first.
encoder_attention = Operation(
    "encoder_attention", encoder_attention_mlx, encoder_attention_reference, _encoder_attention_c
)
