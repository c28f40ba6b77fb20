"""Attention of a prompt's run against its paged context, on Metal: gathered, then in tiles."""

from collections.abc import Iterator

import mlx.core as mx

from ..metal.library import kernel, nothing, padded, scalar
from ..norm.rms_norm import rms_norm
from ..registry import InMetal, Key, Operation, bucket, in_float32, on_cpu
from .gather_pages import gather_pages
from .pages import PAGE, Append, Heads, Layout, Pages, Prefill
from .rope import Table, rope

# What MLX attends to in tiles of its own; it leaves the rest unfused on M1 to M4.
FUSED = (64, 80, 96, 128)
WIDEST = 256  # a lane's outputs are its registers
MEMORY = 30 << 10  # bytes of a threadgroup, two of which a core then holds
SCORES = 1 << 20  # that MLX's unfused operations make at a time
SIMD = 32
TILES = ((4, 32), (4, 16), (2, 16), (2, 8))  # simdgroups of 8 rows; keys. The first that fits


def with_prompts(
    parts: list[mx.array], q: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> tuple[mx.array, Pages]:
    """Return a step's output, of which `parts` are the decoding rows, and its pages.

    q: (rows, heads * head_dim or more), of which the prompts' runs are attended to, once all of the
    step is in the pages.
    """
    for sequence, run in enumerate(layout.prefills, layout.decodes):
        rows = slice(run.start, run.stop)
        part = q[rows, : heads.heads * heads.head_dim].reshape(-1, heads.heads, heads.head_dim)
        part = part if heads.q_norm is None else rms_norm(part, heads.q_norm, heads.eps)
        angles = layout.once(_angles_of, table, run)
        part = rope(part, angles, heads.interleaved, heads.rope_offset)
        run_table = layout.once(_table_of, sequence)
        parts.append(prefill_attention(part, pages, run_table, run, heads).flatten(1))
    out = parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=0)
    return out, pages.after(fence=out) if pages.append is Append.IN_PLACE else pages


def _angles_of(_: Layout, table: Table, run: Prefill) -> Table:
    return Table(table.cos[run.start : run.stop], table.sin[run.start : run.stop])


def _table_of(layout: Layout, sequence: int) -> mx.array:
    return layout.tables[sequence]


def prefill_attention(
    q: mx.array, pages: Pages, table: mx.array, run: Prefill, heads: Heads
) -> mx.array:
    """Attend from (rows, heads, head_dim) to pages that hold the run too: (rows, heads, value_dim).

    table: (pages,), of the run's sequence; those up to ceil(run.context / PAGE) are read, but none
    that lies before the windows of all rows.
    """
    rows, window = q.shape[0], heads.window
    first = 0 if window is None else max(0, run.context - rows + 1 - window) // PAGE
    context = run.context - first * PAGE  # attention knows distances alone
    k, v = gather_pages(pages, table[first : -(-run.context // PAGE)], context, heads, q.dtype)
    return attend_to(q, k, v, context, heads)


def covers(q: mx.array, heads: Heads) -> bool:
    """Return whether the kernel knows heads of this size."""
    sizes = (heads.head_dim, heads.value_dim)
    return max(sizes) <= WIDEST and all(size % 8 == 0 for size in sizes) and _tile(q, heads) != ()


def prefill_metal(q: mx.array, k: mx.array, v: mx.array, context: int, heads: Heads) -> mx.array:
    """Attend by the kernel; k and v: (kv_heads, tokens, width), tokens a multiple of PAGE."""
    rows = q.shape[0]
    simds, keys = _tile(q, heads)
    return kernel("prefill_attention")(
        [
            q,
            k,
            mx.contiguous(v),
            nothing() if heads.sinks is None else padded(heads.sinks),
            *(scalar(n, mx.int32) for n in (rows, context, k.shape[1], heads.window or 0)),
            scalar(heads.scale),
            scalar(heads.softcap or 0.0),
        ],
        [((rows, heads.heads, heads.value_dim), q.dtype)],
        (-(-rows // (8 * simds)) * simds * SIMD, heads.heads, 1),
        (simds * SIMD, 1, 1),
        T=q.dtype,
        HEADS=heads.heads,
        KV_HEADS=heads.kv_heads,
        D=heads.head_dim,
        V=heads.value_dim,
        SIMDS=simds,
        BK=keys,
        SOFTCAP=bool(heads.softcap),
        SINKS=heads.sinks is not None,
    )[0]


def prefill_mlx(q: mx.array, k: mx.array, v: mx.array, context: int, heads: Heads) -> mx.array:
    """Attend by MLX's own operation, in tiles of rows where it makes all of a tile's scores."""
    rows, dtype = q.shape[0], q.dtype
    k, v, q = (_wide(x) for x in (k[:, :context], v[:, :context], q.swapaxes(0, 1)))
    tile = rows if _fused(heads) else max(1, SCORES // (heads.heads * context))
    parts = []
    for start in range(0, rows, tile):
        stop = min(rows, start + tile)
        seen = context - rows + stop
        parts.append(_attended(q[:, start:stop], k[:, :seen], v[:, :seen], heads))
    return mx.concatenate(parts, axis=1).swapaxes(0, 1).astype(dtype)


def _attended(q: mx.array, k: mx.array, v: mx.array, heads: Heads) -> mx.array:
    """Attend from (heads, rows, head_dim), whose last row sees all of k."""
    rows, context = q.shape[1], k.shape[1]
    positions = mx.arange(context - rows, context)[:, None]
    tokens = mx.arange(context)
    seen = tokens <= positions
    if heads.window is not None:
        seen = seen & (tokens > positions - heads.window)
    if not heads.softcap:
        return mx.fast.scaled_dot_product_attention(
            q[None],
            k[None],
            v[None],
            scale=heads.scale,
            mask="causal" if heads.window is None else seen,
            sinks=None if heads.sinks is None else heads.sinks.astype(q.dtype),
        )[0]
    group = heads.heads // heads.kv_heads
    scores = q @ mx.repeat(k, group, axis=0).swapaxes(1, 2) * heads.scale
    scores = mx.where(seen, heads.softcap * mx.tanh(scores / heads.softcap), -mx.inf)
    if heads.sinks is not None:
        sinks = mx.broadcast_to(heads.sinks[:, None, None], (heads.heads, rows, 1))
        scores = mx.concatenate([scores, sinks.astype(scores.dtype)], axis=-1)
    weights = mx.softmax(scores, axis=-1, precise=True)[..., :context]
    return weights @ mx.repeat(v, group, axis=0)


def _fused(heads: Heads) -> bool:
    """Return whether MLX attends in tiles of its own."""
    plain = heads.window is None and heads.sinks is None and not heads.softcap
    return plain and heads.head_dim == heads.value_dim and heads.head_dim in FUSED


def _wide(x: mx.array) -> mx.array:
    """Widen x on a CPU, where MLX's 16-bit products are rounded many times over."""
    return x.astype(mx.float32) if on_cpu() else x


def _tile(q: mx.array, heads: Heads) -> tuple[int, ...]:
    """Return simdgroups and keys of a threadgroup; nothing if none fits its memory."""
    for simds, keys in TILES:
        wide, deep = (size + 16 // q.dtype.size for size in (heads.head_dim, heads.value_dim))
        size = (8 * simds * wide + keys * max(wide, deep)) * q.dtype.size
        narrow = max(heads.head_dim, heads.value_dim) <= 192
        if size <= MEMORY and (narrow or simds == 2):
            return simds, keys
    return ()


def _key(q: mx.array, k: mx.array, v: mx.array, context: int, heads: Heads) -> Key:
    shape = (bucket(q.shape[0]), bucket(k.shape[1]), heads.heads, heads.kv_heads)
    kind = (heads.head_dim, heads.value_dim, bool(heads.softcap), heads.sinks is not None)
    return (*shape, *kind, heads.window or 0, q.dtype)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, mx.array, mx.array, int, Heads]]:
    """Yield runs whose last tile is not full, and whose context ends within a page."""
    for rows, context in ((1, 7), (9, 33)):
        tokens = -(-context // PAGE) * PAGE
        heads = Heads(2, 1, 192, 192**-0.5, 128, softcap=30.0)
        q, k, v = (
            mx.random.normal(shape).astype(dtype)
            for shape in ((rows, 2, 192), (1, tokens, 192), (1, tokens, 128))
        )
        yield q, k, v, context, heads


# A run that ends with token `context`, over k and v: (kv_heads, tokens, width). tokens: a multiple
# of PAGE; what is behind the context is finite.
attend_to = Operation(
    "prefill_attention",
    prefill_mlx,
    prefill_mlx,
    metal=InMetal(
        ("prefill_attention.metal",),
        prefill_metal,
        _key,
        _edges,
        takes=lambda q, k, v, context, heads: covers(q, heads) and not _fused(heads),
        oracle=in_float32(prefill_mlx),
    ),
)
