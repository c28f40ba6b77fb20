"""Attention over paged keys and values, for a ragged step of single tokens and runs of prompts.

A row's result is the same bits whatever else is in the step, because every width is a whole number
of pages, a masked score is exactly 0 after the softmax, and a slot that holds nothing of the
sequence is read as 0.
"""

import mlx.core as mx

from .pages import PAGE, Layout, Pages, Prefill

SCORES = (
    1 << 20
)  # scores of a prompt that exist at a time: 4 MB, and MLX allocates some tiles ahead
MASKED = -3.0e38  # finite, so that a row with nothing to attend to is 0 and not NaN


def append(k: mx.array, v: mx.array, pages: Pages, layout: Layout) -> Pages:
    """Stores (rows, kv_heads, head_dim) at the layout's slots.

    In place as soon as nobody but the result refers to the old pages when it is evaluated.
    """
    heads = k.shape[1]
    page, offset = mx.divmod(layout.slots, PAGE)
    index = (page[:, None] * heads + mx.arange(heads, dtype=mx.int32)) * PAGE + offset[:, None]
    return Pages(_put(pages.keys, index, k), _put(pages.values, index, v))


def paged_attention(
    q: mx.array, pages: Pages, layout: Layout, scale: float, window: int | None = None
) -> mx.array:
    """(rows, heads, head_dim) to the same; a window counts the row itself, as transformers does."""
    q = q * scale
    parts = [_decode(q[: layout.decodes], pages, layout, window)] if layout.decodes else []
    for run in layout.prefills:
        parts.append(_prefill(q[run.start : run.stop], pages, run, window))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=0)


def paged_attention_reference(
    q: mx.array, pages: Pages, layout: Layout, scale: float, window: int | None = None
) -> mx.array:
    """The definition, row by row."""
    rows = [(layout.tables[i], int(layout.contexts[i])) for i in range(layout.decodes)]
    for run in layout.prefills:
        first = run.context - (run.stop - run.start) + 1
        rows += [(run.table, context) for context in range(first, run.context + 1)]
    group = q.shape[1] // pages.keys.shape[1]
    outputs = []
    for row, (table, context) in zip(q.astype(mx.float32), rows, strict=True):
        start = 0 if window is None else max(0, context - window)
        keys, values = (
            mx.repeat(
                pool[table].swapaxes(0, 1).flatten(1, 2)[:, start:context].astype(mx.float32),
                group,
                axis=0,
            )
            for pool in (pages.keys, pages.values)
        )
        scores = mx.sum(row[:, None, :] * keys, axis=-1) * scale
        probabilities = mx.softmax(scores, axis=-1)
        outputs.append(mx.sum(probabilities[:, :, None] * values, axis=1))
    return mx.stack(outputs).astype(q.dtype)


def _put(pool: mx.array, index: mx.array, x: mx.array) -> mx.array:
    flat = pool.reshape(-1, pool.shape[-1])
    flat[index] = x.astype(pool.dtype)
    return flat.reshape(pool.shape)


def _gather(pool: mx.array, tables: mx.array, dtype: mx.Dtype) -> mx.array:
    """(..., pages) to (..., kv_heads, pages * PAGE, head_dim)."""
    heads, dim = pool.shape[1], pool.shape[3]
    index = tables[..., None, :] * heads + mx.arange(heads, dtype=mx.int32)[:, None]
    return pool.reshape(-1, PAGE, dim)[index].flatten(-3, -2).astype(dtype)


def _attend(q: mx.array, k: mx.array, v: mx.array, seen: mx.array, held: mx.array) -> mx.array:
    """q (..., kv_heads, group, rows, dim); seen masks scores, held masks slots of k and v."""
    *lead, heads, group, rows, dim = q.shape
    scores = q.reshape(*lead, heads, group * rows, dim) @ k.swapaxes(-1, -2)
    scores = mx.where(seen, scores.reshape(*lead, heads, group, rows, -1), MASKED)
    probabilities = mx.softmax(scores, axis=-1, precise=True).flatten(-3, -2)
    return (probabilities @ mx.where(held, v, 0)).reshape(*lead, heads, group, rows, dim)


def _decode(q: mx.array, pages: Pages, layout: Layout, window: int | None) -> mx.array:
    rows, heads, dim = q.shape
    k = _gather(pages.keys, layout.tables, q.dtype)
    v = _gather(pages.values, layout.tables, q.dtype)
    slots = mx.arange(k.shape[-2], dtype=mx.int32)
    contexts = layout.contexts[:, None]
    held = slots < contexts
    seen = held if window is None else held & (slots >= contexts - window)
    q = q.reshape(rows, k.shape[1], -1, 1, dim)
    out = _attend(q, k, v, seen[:, None, None, None, :], held[:, None, :, None])
    return out.reshape(rows, heads, dim)


def _prefill(q: mx.array, pages: Pages, run: Prefill, window: int | None) -> mx.array:
    """In tiles of rows, each waiting for the one before: one tile's scores exist at a time."""
    rows, heads, _ = q.shape
    k = _gather(pages.keys, run.table, q.dtype)
    v = _gather(pages.values, run.table, q.dtype)
    slots = mx.arange(k.shape[-2], dtype=mx.int32)
    held = (slots < run.context)[:, None]
    first = run.context - rows
    tile = max(1, SCORES // (heads * k.shape[-2]))
    parts: list[mx.array] = []
    for start in range(0, rows, tile):
        part = q[start : start + tile]
        if parts:
            (part,) = mx.depends([part], [parts[-1]])
        position = mx.arange(first + start, first + start + part.shape[0], dtype=mx.int32)[:, None]
        seen = slots <= position
        if window is not None:
            seen = seen & (slots > position - window)
        parts.append(_tile(part, k, v, seen, held))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=0)


def _tile(q: mx.array, k: mx.array, v: mx.array, seen: mx.array, held: mx.array) -> mx.array:
    rows, heads, dim = q.shape
    grouped = q.reshape(rows, k.shape[0], -1, dim).transpose(1, 2, 0, 3)
    out = _attend(grouped, k, v, seen, held)
    return out.transpose(2, 0, 1, 3).reshape(rows, heads, dim)
