"""Latent attention on Metal: rows that decode, from a new latent to the heads' values."""

from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx

from ..metal.library import SMALLEST, BoundKernel, Value, kernel, nothing, padded, scalar
from ..metal.occupancy import busy
from ..norm.rms_norm import rms_norm
from .attention_metal import IN_PLACE, LOG2E, READ, TAIL, part_names
from .paged_attention import append
from .pages import FENCE, GROUP, TAIL_PAGES, Append, Format, Heads, Layout, Pages, Tail, part_sizes
from .prefill_attention import with_prompts
from .rope import Table, rope

HEADS = 16  # of a threadgroup: two rows of 8x8 fragments
SIMD = 32
MERGED, SHARES = 8, 4  # splits that a thread merges if it may; threads that share a value's
NOWHERE = 1 << 30  # where a tail begins that holds nothing

# A split writes and the merge reads what 0.9 of a page has, so a threadgroup takes some pages; but
# a page is 3 us of one core's arithmetic, so a short context is better shared than left to one.
SHARE = 4  # pages of a threadgroup, at least
LATENT = ("pool", "pool_scales", "pool_biases")  # a pool's parts, by the kernels' names


def covers(q: mx.array, heads: Heads, table: Table, pages: Pages) -> bool:
    """Return whether the kernel knows this kind of attention; whatever the step."""
    pairs, start = table.cos.shape[-1], heads.rope_offset
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
    """Compute `latent_attention`, for what it `covers`; prompts' runs by `prefill_attention`."""
    if not layout.prefills and pages.append is Append.TAIL:
        assert layout.tails is not None
        out, _, (keys, scales, biases) = _launch(TAIL, q, latent, heads, table, pages, layout)
        scaled, biased = pages.key_scales is not None, pages.key_biases is not None
        new = Pages(keys, None, scales if scaled else None, biases if biased else None)
        return out, pages.after(tail=Tail(new, layout.tails))
    if not layout.prefills and pages.append is Append.IN_PLACE and heads.heads <= HEADS:
        out, fence, _ = _launch(IN_PLACE, q, latent, heads, table, pages, layout)
        return out, pages.after(fence=fence)
    pages = _appended(latent, heads, table, pages, layout)
    q_decoded, decoded = q[: layout.decodes], []
    if layout.decodes:  # the pages hold the rows' own tokens
        decoded = [_launch(READ, q_decoded, q_decoded, heads, table, pages, layout)[0]]
    return with_prompts(decoded, q, heads, table, pages, layout)


def _appended(latent: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout) -> Pages:
    """Append a step's latents."""
    if pages.append is not Append.IN_PLACE:
        return append(stored_latent(latent, heads, table)[:, None], None, pages, layout)
    assert pages.fence is not None
    (fence,) = kernel("latent_append", in_place=part_names(_latent_parts(pages), LATENT))(
        [
            *_new(latent, heads, table),
            *_arrays(pages),
            layout.once(_padded, layout.slot_mapping),
            pages.fence,
            scalar(heads.eps),
        ],
        [((latent.shape[0], FENCE), mx.float32)],
        (heads.head_dim, latent.shape[0], 1),
        (heads.head_dim, 1, 1),
        T=latent.dtype,
        K=pages.keys.dtype,
        D=heads.head_dim,
        V=heads.value_dim,
        **_packing(heads, pages.format, table.cos.shape[-1]),
        NORM=heads.k_norm is not None,
    )
    return pages.after(fence=fence)


def stored_latent(latent: mx.array, heads: Heads, table: Table) -> mx.array:
    """Return (rows, head_dim) in float32, to be rounded once: value normalized, rest rotated."""
    latent = latent.astype(mx.float32)
    if heads.k_norm is not None:
        value, rest = mx.split(latent, [heads.value_dim], axis=-1)
        value = rms_norm(value, heads.k_norm, heads.eps)
        latent = mx.concatenate([value, rest], axis=-1)
    return rope(latent[:, None], table, heads.interleaved, heads.rope_offset)[:, 0]


def _launch(
    mode: int,
    q: mx.array,
    latent: mx.array,
    heads: Heads,
    table: Table,
    pages: Pages,
    layout: Layout,
) -> tuple[mx.array, mx.array, list[mx.array]]:
    """Return the output, what the first launch wrote, and the tails' keys, scales and biases."""
    sizes = (q.shape[0], layout.tables.shape[1], table.cos.shape[-1])
    plan = _plan(mode, heads, pages.format, q.dtype, *sizes, busy("latent_attention"))
    tail = pages.tail if mode == TAIL else None
    starts = nothing(mx.int32, NOWHERE, max(SMALLEST, q.shape[0]))
    tail_arrays = [nothing(pages.keys.dtype), *[nothing(mx.float16)] * 2]
    if tail is not None:
        starts, tail_arrays = layout.once(_padded, tail.starts), _arrays(tail.pages)
    tails = nothing(mx.int32) if layout.tails is None else layout.once(_padded, layout.tails)
    out, lse, *parts = plan.attend(
        [
            padded(q),
            *_new(latent, heads, table),
            *_arrays(pages),
            *tail_arrays,
            starts,
            tails,
            *(layout.once(_padded, part) for part in (layout.positions, layout.owners)),
            layout.once(_padded, layout.tables),
            nothing(mx.float32) if pages.fence is None else pages.fence,
            *plan.numbers,
        ]
    )
    if plan.merge is None:
        return out, out, parts
    return plan.merge([out, lse, plan.splits])[0], out, parts


@dataclass(frozen=True, slots=True, eq=False)
class LatentPlan:
    """The launches of a layer for rows that decode, but for their arrays."""

    numbers: tuple[mx.array, mx.array, mx.array]  # pages a row; scale; eps
    splits: mx.array
    attend: BoundKernel
    merge: BoundKernel | None  # where there is more than one split


@lru_cache(maxsize=1024)
def _plan(
    mode: int,
    heads: Heads,
    format: Format,
    dtype: mx.Dtype,
    rows: int,
    width: int,
    pairs: int,
    busy: int,
) -> LatentPlan:
    """Plan a layer's launches for these sizes: `width` pages a row, `pairs` that positions rotate.

    `busy` threadgroups are enough for the device. MMA operands are half only where nothing was
    wider: sums are float in any case.
    """
    blocks = -(-heads.heads // HEADS)
    splits = max(1, min(-(-width // SHARE), -(-busy // (rows * blocks))))
    size = heads.head_dim // _slice(heads) * SIMD
    values, narrow = heads.value_dim, dtype == mx.float16
    narrow = narrow and format not in (Format.FLOAT32, Format.BFLOAT16)
    keys, _, scales, biases, *_ = part_sizes(1, heads.head_dim, 0, format)
    parts = [keys, scales, biases]
    written = part_names(parts, LATENT) if mode == IN_PLACE else ()
    attend = kernel("latent_attention", in_place=written).bound(
        [
            ((rows, splits * heads.heads * values), dtype),
            ((rows, splits * heads.heads), mx.float32),
            *(
                ((rows * TAIL_PAGES, *part[0]), part[1])
                if part is not None and mode == TAIL
                else ((SMALLEST,), mx.float16 if part is None else part[1])
                for part in parts
            ),
        ],
        (splits * size, blocks, rows),
        (size, 1, 1),
        T=dtype,
        K=format.dtype,
        M=mx.float16 if narrow else mx.float32,
        HEADS=heads.heads,
        D=heads.head_dim,
        V=values,
        W=_slice(heads),
        **_packing(heads, format, pairs),
        NORM=heads.k_norm is not None and mode != READ,
        APPEND=mode,
    )
    shares = min(SHARES, -(-splits // MERGED))
    merge = kernel("latent_merge").bound(
        [((rows, heads.heads * values), dtype)],
        (values // 4, heads.heads * shares, rows),
        (min(values // 4, 128), shares, 1),
        T=dtype,
    )
    numbers = (scalar(width, mx.int32), scalar(heads.scale * LOG2E), scalar(heads.eps))
    return LatentPlan(numbers, scalar(splits, mx.int32), attend, merge if splits > 1 else None)


def _padded(_: Layout, array: mx.array) -> mx.array:
    return padded(array)


def _new(latent: mx.array, heads: Heads, table: Table) -> list[mx.array]:
    """Return a step's latents, their norm's weight, and the angles of their positions."""
    absent = nothing()
    angles = [padded(part) if part.size else absent for part in (table.cos, table.sin)]
    return [padded(latent), absent if heads.k_norm is None else heads.k_norm, *angles]


def _arrays(pages: Pages) -> list[mx.array]:
    absent = nothing(mx.float16)
    return [absent if part is None else part for part in _latent_parts(pages)]


def _latent_parts(pages: Pages) -> tuple[mx.array | None, ...]:
    return pages.keys, pages.key_scales, pages.key_biases


def _packing(heads: Heads, format: Format, pairs: int) -> dict[str, Value]:
    """Return the template values of how a latent becomes what is stored."""
    return {
        "PACK": 2 if format == Format.INT4 else 1,
        "FROM": heads.rope_offset,
        "PAIRS": pairs,
        "INTERLEAVED": heads.interleaved,
    }


def _slice(heads: Heads) -> int:
    """Return a simdgroup's dimensions; 0 where they do not come out even."""
    sizes = (heads.head_dim, heads.value_dim)
    even = [size for size in (2 * GROUP, GROUP) if not any(part % size for part in sizes)]
    return even[0] if even and heads.head_dim // even[0] <= SIMD else 0
