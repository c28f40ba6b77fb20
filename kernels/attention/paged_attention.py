"""Attention over paged keys and values by MLX's own operations, for a ragged step.

A row's result is the same bits whatever else is in the step, because every width is a multiple of
a page, a masked score is exactly 0 after the softmax, and a place in a page that holds nothing of
the sequence, or nothing any more that a window shows, is read as 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import mlx.core as mx

from ..linear.rows import join, split
from ..norm.rms_norm import rms_norm, rms_norm_reference
from .pages import GROUP, PAGE, Format, Heads, Layout, Pages, Prefill
from .rope import Table, rope, rope_reference

SCORES = 1 << 20  # of a prompt that exist at a time: 4 MB, and MLX allocates some tiles ahead
MASKED = -3.0e38  # finite, so that a row with nothing to attend to is 0 and not NaN
LARGEST = 65504.0  # of binary16


def append(k: mx.array, v: mx.array | None, pages: Pages, layout: Layout) -> Pages:
    """Store (rows, kv_heads, head_dim) where the layout says, by replacing the pages.

    In place as soon as nobody but the result refers to the old pages when it is evaluated.
    """
    page, offset = layout.once(_pages_and_offsets)
    keys, key_scales, key_biases = _encode(k, pages.format)
    values, value_scales, value_biases = (
        (None, None, None) if v is None else _encode(v, pages.format)
    )
    parts = (
        _put_keys(pages.keys, page, offset, keys),
        _put_values(pages.values, page, offset, values),
        _put_keys(pages.key_scales, page, offset, key_scales),
        _put_keys(pages.key_biases, page, offset, key_biases),
        _put_values(pages.value_scales, page, offset, value_scales),
        _put_values(pages.value_biases, page, offset, value_biases),
    )
    return pages.after(parts, fence=pages.fence)


def _pages_and_offsets(layout: Layout) -> tuple[mx.array, ...]:
    return tuple(mx.divmod(layout.slot_mapping, PAGE))


def paged_attention(q: mx.array, pages: Pages, layout: Layout, heads: Heads) -> mx.array:
    """Attend from (rows, heads, head_dim) to appended pages: (rows, heads, value_dim)."""
    q = q * heads.scale
    parts = [_decode(q[: layout.decodes], pages, layout, heads)] if layout.decodes else []
    for sequence, run in enumerate(layout.prefills, layout.decodes):
        table = layout.tables[sequence, : -(-run.context // PAGE)]
        parts.append(_prefill(q[run.start : run.stop], pages, table, run, heads))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=0)


def paged_attention_reference(q: mx.array, pages: Pages, layout: Layout, heads: Heads) -> mx.array:
    """Define `paged_attention`, row by row."""
    group = heads.heads // heads.kv_heads
    outputs = []
    for i, row in enumerate(q.astype(mx.float32)):
        stop = int(layout.positions[i]) + 1
        start = 0 if heads.window is None else max(0, stop - heads.window)
        keys, values = (
            mx.repeat(part[:, start:stop], group, axis=0)
            for part in gathered(pages, layout.tables[int(layout.owners[i])], heads, mx.float32)
        )
        scores = mx.sum(row[:, None, :] * keys, axis=-1) * heads.scale
        if heads.softcap:
            scores = heads.softcap * mx.tanh(scores / heads.softcap)
        if heads.sinks is not None:
            scores = mx.concatenate([scores, heads.sinks[:, None]], axis=1)
        probabilities = mx.softmax(scores, axis=-1)[:, : stop - start]
        outputs.append(mx.sum(probabilities[:, :, None] * values, axis=1))
    return mx.stack(outputs).astype(q.dtype)


def _put_keys(
    pool: mx.array | None, page: mx.array, offset: mx.array, x: mx.array | None
) -> mx.array | None:
    if pool is None or x is None:
        return None
    heads, width, _ = pool.shape[1:]
    rows = page[:, None] * heads + mx.arange(heads, dtype=mx.int32)
    index = rows[:, :, None] * width + mx.arange(width, dtype=mx.int32)
    flat = pool.reshape(-1)
    flat[index * PAGE + offset[:, None, None]] = _narrowed(x, pool.dtype)
    return flat.reshape(pool.shape)


def _put_values(
    pool: mx.array | None, page: mx.array, offset: mx.array, x: mx.array | None
) -> mx.array | None:
    if pool is None or x is None:
        return None
    heads = pool.shape[1]
    rows = page[:, None] * heads + mx.arange(heads, dtype=mx.int32)
    flat = pool.reshape(-1, pool.shape[-1])
    flat[rows * PAGE + offset[:, None]] = _narrowed(x, pool.dtype)
    return flat.reshape(pool.shape)


def _narrowed(x: mx.array, dtype: mx.Dtype) -> mx.array:
    """Convert to a pool's dtype: what is beyond binary16 is held at its end, infinities are NaN."""
    if dtype == mx.float16 != x.dtype:
        x = mx.clip(x, -LARGEST, LARGEST) + (x - x)
    return x.astype(dtype)


def _encode(x: mx.array, format: Format) -> tuple[mx.array, mx.array | None, mx.array | None]:
    """Encode (..., dim) as codes, scales and biases; a last group may be short."""
    if format not in (Format.INT8, Format.INT4):
        return x, None, None
    full = x.shape[-1] // GROUP * GROUP
    pieces = [
        _encode_groups(mx.unflatten(piece, -1, (-1, min(GROUP, piece.shape[-1]))), format)
        for piece in mx.split(x.astype(mx.float32), [full], axis=-1)
        if piece.shape[-1]
    ]
    codes, scales, biases = (
        mx.concatenate(list(parts), axis=-1) for parts in zip(*pieces, strict=True)
    )
    return codes, scales, biases if format == Format.INT4 else None


def _encode_groups(x: mx.array, format: Format) -> tuple[mx.array, mx.array, mx.array]:
    """Encode (..., groups, values): byte i of 4 bits holds values i and i + half."""
    if format == Format.INT8:
        scales = _narrowed(mx.max(mx.abs(x), axis=-1) / 127, mx.float16)
        wide = scales.astype(mx.float32)[..., None]
        codes = mx.clip(mx.round(mx.where(wide == 0, 0, x / wide)), -127, 127)
        return codes.astype(mx.int8).flatten(-2), scales, scales
    low = _narrowed(mx.min(x, axis=-1), mx.float16)
    start = low.astype(mx.float32)[..., None]
    scales = _narrowed((mx.max(x, axis=-1) - start[..., 0]) / 15, mx.float16)
    wide = scales.astype(mx.float32)[..., None]
    steps = mx.clip(mx.round(mx.where(wide == 0, 0, (x - start) / wide)), 0, 15)
    first, second = mx.split(steps.astype(mx.uint8), 2, axis=-1)
    return (first | (second << 4)).flatten(-2), scales, low


def _decoded(
    codes: mx.array, scales: mx.array | None, biases: mx.array | None, dim: int, dtype: mx.Dtype
) -> mx.array:
    """Reverse `_encode`: (..., stored) to (..., dim)."""
    if scales is None:
        return codes.astype(dtype)
    per_byte = 1 if biases is None else 2
    parts = []
    for group in range(scales.shape[-1]):
        first, last = group * GROUP // per_byte, min(dim, (group + 1) * GROUP) // per_byte
        part = codes[..., first:last]
        if biases is not None:
            part = mx.concatenate([part & 15, part >> 4], axis=-1)
        part = part.astype(mx.float32) * scales[..., group : group + 1].astype(mx.float32)
        if biases is not None:
            part = part + biases[..., group : group + 1].astype(mx.float32)
        parts.append(part)
    return mx.concatenate(parts, axis=-1).astype(dtype)


def gathered(
    pages: Pages, tables: mx.array, heads: Heads, dtype: mx.Dtype
) -> tuple[mx.array, mx.array]:
    """Read keys and values, (..., kv_heads, pages * PAGE, dim), of tables (..., pages)."""

    def read(pool: mx.array | None, keys: bool) -> mx.array | None:
        if pool is None:
            return None
        rows = pool[tables].swapaxes(-3, -4)
        return (rows.swapaxes(-1, -2) if keys else rows).flatten(-3, -2)

    stored = read(pages.keys, True)
    assert stored is not None
    scales, biases = read(pages.key_scales, True), read(pages.key_biases, True)
    keys = _decoded(stored, scales, biases, heads.head_dim, dtype)
    stored = read(pages.values, False)
    if stored is None:
        return keys, keys[..., : heads.value_dim]
    scales, biases = read(pages.value_scales, False), read(pages.value_biases, False)
    return keys, _decoded(stored, scales, biases, heads.value_dim, dtype)


def _attend(
    q: mx.array, k: mx.array, v: mx.array, seen: mx.array, held: mx.array, heads: Heads
) -> mx.array:
    """Attend from q (..., kv_heads, group, rows, dim); seen masks scores, held masks k and v."""
    *lead, kv_heads, group, rows, dim = q.shape
    scores = q.reshape(*lead, kv_heads, group * rows, dim) @ k.swapaxes(-1, -2)
    scores = scores.reshape(*lead, kv_heads, group, rows, -1)
    if heads.softcap:
        scores = heads.softcap * mx.tanh(scores / heads.softcap)
    scores = mx.where(seen, scores, MASKED)
    if heads.sinks is None:
        probabilities = mx.softmax(scores, axis=-1, precise=True)
    else:
        sinks = heads.sinks.reshape(kv_heads, group, 1, 1)
        top = mx.maximum(mx.max(scores, axis=-1, keepdims=True), sinks)
        weights = mx.exp(scores - top)
        probabilities = weights / (mx.sum(weights, axis=-1, keepdims=True) + mx.exp(sinks - top))
    out = probabilities.flatten(-3, -2).astype(v.dtype) @ mx.where(held, v, 0)
    return out.reshape(*lead, kv_heads, group, rows, v.shape[-1])


def _decode(q: mx.array, pages: Pages, layout: Layout, heads: Heads) -> mx.array:
    rows, count, dim = q.shape
    k, v = gathered(pages, layout.tables[:rows], heads, q.dtype)
    seen = layout.once(_seen, heads.window)
    q = q.reshape(rows, heads.kv_heads, -1, 1, dim)
    out = _attend(q, k, v, seen[:, None, None, None, :], seen[:, None, :, None], heads)
    return out.reshape(rows, count, heads.value_dim)


def _seen(layout: Layout, window: int | None) -> mx.array:
    """Mask (decodes, tokens of a table): what each row's window shows."""
    tokens = mx.arange(layout.tables.shape[1] * PAGE, dtype=mx.int32)
    contexts = layout.positions[: layout.decodes, None] + 1
    seen = tokens < contexts
    return seen if window is None else seen & (tokens >= contexts - window)


def _prefill(q: mx.array, pages: Pages, table: mx.array, run: Prefill, heads: Heads) -> mx.array:
    """Attend in tiles of rows, one after the other: one tile's scores exist at a time."""
    rows, count, _ = q.shape
    k, v = gathered(pages, table, heads, q.dtype)
    tokens = mx.arange(k.shape[-2], dtype=mx.int32)
    first = run.context - rows
    held = tokens < run.context
    if heads.window is not None:
        held = held & (tokens > first - heads.window)
    tile = max(1, SCORES // (count * k.shape[-2]))
    parts: list[mx.array] = []
    for start in range(0, rows, tile):
        part = q[start : start + tile]
        if parts:
            (part,) = mx.depends([part], [parts[-1]])
        position = mx.arange(first + start, first + start + part.shape[0], dtype=mx.int32)[:, None]
        seen = tokens <= position
        if heads.window is not None:
            seen = seen & (tokens > position - heads.window)
        parts.append(_tile(part, k, v, seen, held[:, None], heads))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=0)


def _tile(
    q: mx.array, k: mx.array, v: mx.array, seen: mx.array, held: mx.array, heads: Heads
) -> mx.array:
    rows, count, dim = q.shape
    grouped = q.reshape(rows, k.shape[0], -1, dim).transpose(1, 2, 0, 3)
    out = _attend(grouped, k, v, seen, held, heads)
    return out.transpose(2, 0, 1, 3).reshape(rows, count, heads.value_dim)


@lru_cache(maxsize=1024)
def _unnormed(heads: Heads) -> Heads:
    return replace(heads, k_norm=None)


def _split(qkv: mx.array, heads: Heads) -> tuple[mx.array, mx.array, mx.array]:
    keys = heads.heads * heads.head_dim
    values = keys + heads.kv_heads * heads.head_dim
    q, k, v = mx.split(qkv, [keys, values], axis=1)
    return (
        q.reshape(-1, heads.heads, heads.head_dim),
        k.reshape(-1, heads.kv_heads, heads.head_dim),
        v.reshape(-1, heads.kv_heads, heads.value_dim),
    )


@dataclass(frozen=True, slots=True)
class Composition:
    """Attention made of these operations: MLX's own, or the definitions of each."""

    norm: Callable[[mx.array, mx.array, float], mx.array]
    rope: Callable[[mx.array, Table, bool, int], mx.array]
    attend: Callable[[mx.array, Pages, Layout, Heads], mx.array]
    dtype: mx.Dtype | None = None

    def attention(
        self, qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
    ) -> tuple[mx.array, Pages]:
        """Compute `attention`."""
        return self._attended(*_split(self._cast(qkv), heads), heads, table, pages, layout)

    def latent_attention(
        self,
        q: mx.array,
        latent: mx.array,
        heads: Heads,
        table: Table,
        pages: Pages,
        layout: Layout,
    ) -> tuple[mx.array, Pages]:
        """Compute `latent_attention`."""
        q, latent = self._cast(q).reshape(-1, heads.heads, heads.head_dim), self._cast(latent)
        if heads.k_norm is not None:
            value, rest = split(latent, [heads.value_dim])
            value = self.norm(value, heads.k_norm, heads.eps).astype(latent.dtype)
            latent, heads = join([value, rest]), _unnormed(heads)
        return self._attended(q, latent[:, None], None, heads, table, pages, layout)

    def _cast(self, x: mx.array) -> mx.array:
        return x if self.dtype is None else x.astype(self.dtype)

    def _attended(
        self,
        q: mx.array,
        k: mx.array,
        v: mx.array | None,
        heads: Heads,
        table: Table,
        pages: Pages,
        layout: Layout,
    ) -> tuple[mx.array, Pages]:
        q = q if heads.q_norm is None else self.norm(q, heads.q_norm, heads.eps)
        k = k if heads.k_norm is None else self.norm(k, heads.k_norm, heads.eps)
        q, k = (self.rope(x, table, heads.interleaved, heads.rope_offset) for x in (q, k))
        pages = append(k, v, pages, layout)
        return self.attend(q, pages, layout, heads).flatten(1), pages


BY_MLX = Composition(rms_norm, rope, paged_attention)
BY_DEFINITION = Composition(
    rms_norm_reference, rope_reference, paged_attention_reference, mx.float32
)
