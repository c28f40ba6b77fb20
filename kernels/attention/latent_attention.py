"""Latent attention on Metal: rows that decode, from a new latent to the heads' values."""

from dataclasses import replace

import mlx.core as mx

from ..metal.library import SMALLEST, Value, kernel, nothing, padded, scalar
from ..norm.rms_norm import rms_norm
from .paged_attention import append
from .pages import GROUP, TAIL_PAGES, TOKEN, Format, Heads, Layout, Pages, Tail
from .prefill_attention import with_prompts
from .rope import Table, rope

HEADS = 16  # of a threadgroup: two rows of 8x8 fragments
SIMD = 32
NOWHERE = 1 << 30  # where a tail begins that holds nothing
LOG2_E = 1.4426950408889634

# A split writes and the merge reads what 0.9 of a page has, so a threadgroup takes some pages; but
# a page is 3 us of one core's arithmetic, so a short context is better shared than left to one.
SHARE = 4  # pages of a threadgroup, at least
GROUPS = 64  # threadgroups that a GPU is kept busy with
Place = tuple[Heads, Table, Pages, Layout]  # of one layer in one step
Split = tuple[mx.array, mx.array]  # outputs (rows, splits, ...), logarithms of their weights
NEITHER, TAIL, IN_PLACE = 0, 1, 2  # how a new token is stored, in latent_attention.metal


def covers(q: mx.array, heads: Heads, table: Table, pages: Pages) -> bool:
    """Whether the kernel knows this kind of attention; whatever the step."""
    pairs, start = table.cos.shape[-1], heads.turned_from
    return (
        pages.values is None
        and heads.kv_heads == 1
        and not heads.softcap
        and all(part is None for part in (heads.window, heads.sinks, heads.q_norm))
        and _slice(heads) > 0
        and (heads.k_norm is None or not pairs or start >= heads.value_dim)
        and not (heads.interleaved and start % 2)
        and q.dtype in (mx.float32, mx.float16, mx.bfloat16)
        and q.shape[0] > 0
    )


def latent_attention_metal(
    q: mx.array, latent: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> tuple[mx.array, Pages]:
    """As `latent_attention`, for what it `covers`; prompts' runs go to `prefill_attention`."""
    if layout.tails is not None:
        return _into_tails(q, latent, (heads, table, pages, layout), layout.tails)
    together = pages.token is not None and not layout.prefills and heads.heads <= HEADS
    if together:
        found, _ = _attend(q, latent, (heads, table, pages, layout), IN_PLACE)
        return _merged(found, heads), replace(pages, token=found[0])
    pages = _appended(latent, heads, table, pages, layout)
    decoded = [_rows(q[: layout.decodes], heads, table, pages, layout)] if layout.decodes else []
    return with_prompts(decoded, q, heads, table, pages, layout)


def _rows(q: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout) -> mx.array:
    """Of pages that hold the rows' own tokens; the layout may go on with a prompt's."""
    found, _ = _attend(q, q, (heads, table, pages, layout), NEITHER)
    return _merged(found, heads)


def _appended(latent: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout) -> Pages:
    """The pages with the step's latents, in place where there is a token."""
    if pages.token is None:
        return append(stored_latent(latent, heads, table)[:, None], None, pages, layout)
    (done,) = kernel("latent_append", in_place=_written(pages, IN_PLACE))(
        [
            *_new(latent, heads, table),
            *_arrays(pages),
            padded(layout.slots),
            pages.token,
            scalar(heads.eps),
        ],
        [((latent.shape[0], TOKEN), mx.float32)],
        (heads.head_dim, latent.shape[0], 1),
        (heads.head_dim, 1, 1),
        T=latent.dtype,
        K=pages.keys.dtype,
        D=heads.head_dim,
        V=heads.value_dim,
        **_packing(heads, table, pages),
        NORM=heads.k_norm is not None,
    )
    return replace(pages, token=done)


def stored_latent(latent: mx.array, heads: Heads, table: Table) -> mx.array:
    """(rows, head_dim) in float32, to be rounded once: value normalized, position turned in."""
    latent = latent.astype(mx.float32)
    if heads.k_norm is not None:
        value, rest = mx.split(latent, [heads.value_dim], axis=-1)
        value = rms_norm(value, heads.k_norm, heads.eps)
        latent = mx.concatenate([value, rest], axis=-1)
    return rope(latent[:, None], table, heads.interleaved, heads.turned_from)[:, 0]


def _merged(split: Split, heads: Heads) -> mx.array:
    """To (rows, heads * value_dim)."""
    out, lse = split
    rows, splits = out.shape[:2]
    if splits == 1:
        return out.reshape(rows, -1)
    return kernel("latent_merge")(
        [out, lse, scalar(splits, mx.int32)],
        [((rows, heads.heads * heads.value_dim), out.dtype)],
        (heads.value_dim // 4, heads.heads, rows),
        (min(heads.value_dim // 4, 128), 1, 1),
        T=out.dtype,
    )[0]


def _into_tails(
    q: mx.array, latent: mx.array, place: Place, tails: mx.array
) -> tuple[mx.array, Pages]:
    heads, _, pages, _ = place
    found, (keys, scales, biases) = _attend(q, latent, place, TAIL)
    scaled, biased = _quantized(pages)
    made = Pages(keys, None, scales if scaled else None, biases if biased else None)
    return _merged(found, heads), replace(pages, tail=Tail(made, tails))


def _quantized(pages: Pages) -> tuple[bool, bool]:
    """Whether there are scales, and biases."""
    return pages.key_scales is not None, pages.key_biases is not None


def _attend(
    q: mx.array, latent: mx.array, place: Place, append: int
) -> tuple[Split, list[mx.array]]:
    """What the splits found, and the tails' keys, scales and biases."""
    heads, table, pages, layout = place
    rows, width = q.shape[0], layout.tables.shape[1]
    blocks = -(-heads.heads // HEADS)
    splits = max(1, min(-(-width // SHARE), -(-GROUPS // (rows * blocks))))
    size = heads.head_dim // _slice(heads) * SIMD
    out, lse, *tail = kernel("latent_attention", in_place=_written(pages, append))(
        _inputs(q, latent, place, append),
        [
            ((rows, splits, heads.heads, heads.value_dim), q.dtype),
            ((rows, splits, heads.heads), mx.float32),
            *_tail_outputs(rows, pages, append),
        ],
        (splits * size, blocks, rows),
        (size, 1, 1),
        **_template(q, heads, table, pages, append),
    )
    return (out, lse), tail


def _inputs(q: mx.array, latent: mx.array, place: Place, append: int) -> list[mx.array]:
    heads, table, pages, layout = place
    tail = pages.tail.pages if pages.tail is not None and append == TAIL else None
    held = [nothing(pages.keys.dtype), *[nothing(mx.float16)] * 2]
    if tail is not None:
        held = [*_arrays(tail)]
    starts = nothing(mx.int32, NOWHERE, max(SMALLEST, q.shape[0]))
    if tail is not None and pages.tail is not None:
        starts = padded(pages.tail.starts)
    integers = (layout.positions, layout.owners, layout.tables)
    return [
        padded(q),
        *_new(latent, heads, table),
        *_arrays(pages),
        *held,
        starts,
        nothing(mx.int32) if layout.tails is None else padded(layout.tails),
        *map(padded, integers),
        nothing(mx.float32) if pages.token is None else pages.token,
        scalar(layout.tables.shape[1], mx.int32),
        scalar(heads.scale * LOG2_E),
        scalar(heads.eps),
    ]


def _new(latent: mx.array, heads: Heads, table: Table) -> list[mx.array]:
    """A step's latents, their norm's weight, and the turns of their positions."""
    absent = nothing()
    turns = [padded(part) if part.size else absent for part in (table.cos, table.sin)]
    return [padded(latent), absent if heads.k_norm is None else heads.k_norm, *turns]


def _arrays(pages: Pages) -> list[mx.array]:
    some = (pages.key_scales, pages.key_biases)
    return [pages.keys, *(nothing(mx.float16) if part is None else part for part in some)]


def _tail_outputs(rows: int, pages: Pages, append: int) -> list[tuple[tuple[int, ...], mx.Dtype]]:
    parts = ((part.shape[1:], part.dtype) for part in _arrays(pages))
    some = (append == TAIL, *(append == TAIL and held for held in _quantized(pages)))
    return [
        ((rows * TAIL_PAGES, *shape) if held else (SMALLEST,), dtype)
        for (shape, dtype), held in zip(parts, some, strict=True)
    ]


def _written(pages: Pages, append: int) -> tuple[str, ...]:
    names = ("pool", "pool_scales", "pool_biases")
    some = (append == IN_PLACE, *(append == IN_PLACE and held for held in _quantized(pages)))
    return tuple(name for name, held in zip(names, some, strict=True) if held)


def _template(
    q: mx.array, heads: Heads, table: Table, pages: Pages, append: int
) -> dict[str, Value]:
    """MMA operands are half only where nothing was wider: sums are float in any case."""
    narrow = q.dtype == mx.float16 and pages.format not in (Format.FLOAT32, Format.BFLOAT16)
    return {
        "T": q.dtype,
        "K": pages.keys.dtype,
        "M": mx.float16 if narrow else mx.float32,
        "HEADS": heads.heads,
        "D": heads.head_dim,
        "V": heads.value_dim,
        "W": _slice(heads),
        **_packing(heads, table, pages),
        "NORM": heads.k_norm is not None and append != NEITHER,
        "APPEND": append,
    }


def _packing(heads: Heads, table: Table, pages: Pages) -> dict[str, Value]:
    """How a latent becomes what is stored."""
    return {
        "PACK": 2 if pages.format == Format.INT4 else 1,
        "FROM": heads.turned_from,
        "PAIRS": table.cos.shape[-1],
        "INTERLEAVED": heads.interleaved,
    }


def _slice(heads: Heads) -> int:
    """Dimensions of a simdgroup; 0 where they do not come out even."""
    sizes = (heads.head_dim, heads.value_dim)
    even = [size for size in (2 * GROUP, GROUP) if not any(part % size for part in sizes)]
    return even[0] if even and heads.head_dim // even[0] <= SIMD else 0
