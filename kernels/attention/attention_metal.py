"""Attention of a step by Metal kernels: decoding rows fused in one launch, two where it splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx

from ..metal.library import BoundKernel, Output, Value, kernel, nothing, padded, scalar
from ..metal.occupancy import busy
from ..norm.rms_norm import rms_norm
from .paged_attention import append
from .pages import (
    FENCE,
    PAGE,
    TAIL_PAGES,
    Append,
    Format,
    Heads,
    Layout,
    Pages,
    Prefill,
    Tail,
    pages_of,
    part_sizes,
    zeros,
)
from .prefill_attention import with_prompts
from .rope import Table, rope

BITS = {Format.INT8: 8, Format.INT4: 4}  # of codes that are not the values themselves
MULTIPLES = {Format.INT4: 8}  # what a head's width must be a multiple of, if not of 4
SUMS = 32  # a lane's sums of values: more heads than fit are left to other threadgroups
THREADS = 128
READ, TAIL, IN_PLACE = range(3)  # as in metal/page.h
POOL = ("keys", "values", "key_scales", "key_biases", "value_scales", "value_biases")
MERGED, MERGERS = 8, 8  # splits that a simdgroup merges if it may; those of a threadgroup at most
HEADER = 12  # numbers before the norms in `layer`, as in attention.metal
FAR = 1 << 30  # beyond all positions
SELF_TESTED = (Format.FLOAT32, Format.INT8, Format.INT4)
LOG2E = 1.4426950408889634


def covers(heads: Heads, format: Format) -> bool:
    """Return whether the kernels are for heads of this width; others are left to MLX."""
    multiple = MULTIPLES.get(format, 4)
    return heads.head_dim % multiple == 0 and heads.value_dim % multiple == 0


def attention_metal(
    qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> tuple[mx.array, Pages]:
    """Compute `attention`.

    Where the step only decodes, a pool with tails stays and the result has the next tail; one that
    is written in place is written by the same launch, whose output is the next fence. Prompts among
    the rows are attended to by `prefill_attention`, once all of the step is in the pool.
    """
    rows, decodes = layout.positions.shape[0], layout.decodes
    if not rows:
        return mx.zeros((0, heads.heads * heads.value_dim), qkv.dtype), pages
    if not layout.prefills and pages.append is Append.TAIL:
        assert layout.tails is not None
        out, *parts = _launch(TAIL, qkv, heads, table, pages, layout)
        return out, pages.after(tail=Tail(_pages(parts, pages), layout.tails))
    assert pages.tail is None
    if not layout.prefills and pages.append is Append.IN_PLACE:
        (out,) = _launch(IN_PLACE, qkv, heads, table, pages, layout)
        return out, pages.after(fence=out)
    pages = _appended(qkv, heads, table, pages, layout)
    decoded = [_launch(READ, qkv[:decodes], heads, table, pages, layout)[0]] if decodes else []
    return with_prompts(decoded, qkv, heads, table, pages, layout)


def self_test(iterations: int) -> bool:
    """Return whether this device keeps to writing in place: the next kernel reads what one wrote.

    Both kernels that write, a prompt's and a token's, into plain and quantized pages.
    """
    return all(_keeps_writes(iterations // len(SELF_TESTED), format) for format in SELF_TESTED)


def _keeps_writes(steps: int, format: Format) -> bool:
    """Let a sequence over two pages begin anew again and again, the pages changing places.

    A prompt of 5 tokens, then 35 steps, two of them in flight. Keys are 0, so that an output is the
    mean of the values so far; those are exact in each format.
    """
    length, prompt, heads = 40, 5, Heads(4, 1, 32, 1.0, 32)
    pages = zeros(3, 1, 32, 32, format, Append.IN_PLACE)
    mx.eval(pages.arrays)
    outs, means = [], []
    for i in range(steps):
        times, step = divmod(i, length - prompt + 1)
        first, end = (step + prompt - 1 if step else 0), step + prompt
        values = [((7 * j + times) % 31 - 15) * 127 / 8 for j in range(end)]
        means += [sum(values[: n + 1]) / (n + 1) for n in range(first, end)]
        v = mx.array(values[first:])[:, None]
        out, pages = attention_metal(
            mx.concatenate([mx.zeros((v.size, 160)), mx.repeat(v, 32, axis=1)], axis=1),
            heads,
            Table(*[mx.zeros((v.size, 1, 0))] * 2),
            pages,
            _alone(range(first, end), (1 + times % 2, 2 - times % 2)),
        )
        outs.append(out)
        mx.async_eval(out)  # type: ignore[no-untyped-call]
        if i > 1:
            mx.eval(outs[i - 2])
    error = mx.abs(mx.concatenate(outs) - mx.array(means)[:, None])
    return bool(mx.all(error < 1e-2))  # False for NaN


def _alone(places: range, table: tuple[int, ...]) -> Layout:
    slots = [table[place // PAGE] * PAGE + place % PAGE for place in places]
    positions, slot_mapping, owners = (
        mx.array(each, mx.int32) for each in (list(places), slots, [0] * len(places))
    )
    prompts = (Prefill(0, len(places), places.stop),) if len(places) > 1 else ()
    tables = mx.array([table], mx.int32)
    return Layout(positions, slot_mapping, owners, tables, 1 - len(prompts), prompts)


def _pages(parts: Sequence[mx.array], like: Pages) -> Pages:
    """Return the arrays that a pool like this has; the others were made for form's sake."""
    if len(parts) == 2:  # codes alone
        return Pages(parts[0], None if like.values is None else parts[1])
    pairs = zip(parts, like.parts, strict=True)
    return pages_of(None if old is None else new for new, old in pairs)


def _appended(qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout) -> Pages:
    """Append a step's keys and values: in float32 up to what is stored, as the kernels do it."""
    start = heads.heads * heads.head_dim
    stop = start + heads.kv_heads * heads.head_dim
    k = qkv[:, start:stop].reshape(-1, heads.kv_heads, heads.head_dim).astype(mx.float32)
    v = qkv[:, stop:].reshape(-1, heads.kv_heads, heads.value_dim)
    if heads.k_norm is not None:
        k = rms_norm(k, heads.k_norm, heads.eps)
    k = rope(k, table, heads.interleaved, heads.rope_offset)
    if pages.append is not Append.IN_PLACE:
        return append(k, v, pages, layout)
    (fence,) = kernel("append_pages", in_place=part_names(pages.parts))(
        [*map(padded, (k, v, layout.slot_mapping)), *_all(pages), _fence(pages, qkv.dtype)],
        [((FENCE,), mx.float32)],
        (32, heads.kv_heads, qkv.shape[0]),
        (32, 1, 1),
        T=qkv.dtype,
        S=pages.keys.dtype,
        BITS=BITS.get(pages.format, 0),
        D=heads.head_dim,
        V=heads.value_dim,
    )
    return pages.after(fence=fence)


def _launch(
    mode: int, qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> list[mx.array]:
    """Return the output, and what the kernel gives besides."""
    cos, format = table.cos, pages.format
    sizes = (qkv.shape[0], layout.tables.shape[1], cos.shape[-1])
    plan = _plan(mode, heads, format, qkv.dtype, *sizes, busy("attention"))
    tail = pages.tail
    step = layout.once(_step_table, None if tail is None else tail.starts)
    inputs = [qkv, plan.layer, padded(cos), padded(table.sin), step, *_parts(pages, format)]
    if mode == TAIL:
        inputs += _parts(pages if tail is None else tail.pages, format)
    else:
        inputs.append(_fence(pages, qkv.dtype))
    out = plan.attend(inputs)
    if plan.merge is not None:
        (out[0],) = plan.merge([out[0], plan.layer, plan.sinks])
    return out


@dataclass(frozen=True, slots=True, eq=False)
class DecodePlan:
    """The launches of a layer for rows that decode, but for their arrays."""

    layer: mx.array  # see `_layer`
    sinks: mx.array  # where they begin in it
    attend: BoundKernel
    merge: BoundKernel | None  # where each row's tokens are split


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
) -> DecodePlan:
    """Plan a layer's launches for these sizes: `width` pages a row, `pairs` that positions rotate.

    `busy` threadgroups are enough for the device. It follows from the arguments alone; the next
    step with the same sizes finds it again.
    """
    group = heads.heads // heads.kv_heads
    together = _together(group, heads.value_dim)
    blocks = -(-group // together)
    splits = _splits(width, heads, format, busy // (rows * heads.kv_heads * blocks))
    outs: Output = ((rows, heads.heads * heads.value_dim), dtype)
    parts: Output = ((rows, heads.heads, splits, heads.value_dim + 4), dtype)
    template: dict[str, Value] = {"T": dtype, "S": format.dtype, "SPLIT": splits > 1}
    template |= {"D": heads.head_dim, "V": heads.value_dim, "G": group, "H": together}
    if format in BITS:
        template["BITS"] = BITS[format]
    name = "attention_quantized" if format in BITS else "attention"
    sizes = part_sizes(heads.kv_heads, heads.head_dim, heads.value_dim, format)
    tails: list[Output] = []
    if mode == TAIL:
        chosen = kernel(name, f"{name}_tail")
        tails = [
            ((rows * TAIL_PAGES,), mx.float16)
            if size is None
            else ((rows * TAIL_PAGES, *size[0]), size[1])
            for size in (sizes if format in BITS else sizes[:2])
        ]
    else:
        chosen = kernel(name, in_place=part_names(sizes) if mode == IN_PLACE else ())
        template["MODE"] = mode
    grid = (splits * THREADS, heads.kv_heads * blocks, rows)
    attend = chosen.bound(
        [outs if splits == 1 else parts, *tails], grid, (THREADS, 1, 1), **template
    )
    threads = 32 * min(MERGERS, -(-splits // MERGED))
    merge = kernel("attention_merge").bound(
        [outs], (threads, heads.heads, rows), (threads, 1, 1), T=dtype, V=heads.value_dim
    )
    sinks = scalar(0 if heads.sinks is None else HEADER + 2 * heads.head_dim, mx.int32)
    return DecodePlan(_layer(heads, pairs), sinks, attend, merge if splits > 1 else None)


def _fence(pages: Pages, dtype: mx.Dtype) -> mx.array:
    """Return it in the one type that the kernels are compiled for; a first one may have another."""
    if pages.fence is None:
        return nothing(dtype)
    return pages.fence if pages.fence.dtype == dtype else pages.fence.astype(dtype)


def part_names(parts: Sequence[object], names: Sequence[str] = POOL) -> tuple[str, ...]:
    """Return the kernels' names for the parts that a pool has."""
    return tuple(name for name, part in zip(names, parts, strict=True) if part is not None)


def _together(group: int, value_dim: int) -> int:
    """Return a threadgroup's heads, so that all of a key head's have about as many."""
    most = max(1, SUMS // (4 * -(-value_dim // 128)))
    return -(-group // -(-group // most))


def _splits(width: int, heads: Heads, format: Format, enough: int) -> int:
    """Return a power of two, from what is known without waiting for the GPU; not over `enough`.

    A split costs 2 * heads * value_dim values, so that it should have many tokens; and its four
    simdgroups want a page each.
    """
    longest = width * PAGE
    if heads.window is not None:
        longest = min(longest, heads.window + 2 * PAGE)
    wide = 32 * (heads.heads // heads.kv_heads) * 16 // BITS.get(format, 16)
    most = min(enough, longest // max(4 * PAGE, wide))
    return 1 << max(0, most.bit_length() - 1)


def _all(pages: Pages) -> list[mx.array]:
    """Return a pool's arrays, and something of the right type for those that it lacks."""
    absent = nothing(mx.float16)
    return [absent if array is None else array for array in pages.parts]


def _parts(pages: Pages, format: Format) -> list[mx.array]:
    """Return what the kernel for such pages takes: codes alone, or all."""
    if format in BITS:
        return _all(pages)
    return [pages.keys, nothing(mx.float16) if pages.values is None else pages.values]


@lru_cache(maxsize=1024)
def _layer(heads: Heads, pairs: int) -> mx.array:
    """Return what is the same in every step, in the order of attention.metal."""
    cap = heads.softcap or 0.0
    numbers = [
        *(heads.scale / cap if cap else heads.scale * LOG2E, cap * LOG2E, heads.eps),
        *(pairs, heads.rope_offset, heads.interleaved, heads.window or 0),
        *(array is not None for array in (heads.q_norm, heads.k_norm, heads.sinks)),
    ]
    header = mx.array([*map(float, numbers), *[0.0] * (HEADER - len(numbers))], mx.float32)
    norms = (
        mx.ones((heads.head_dim,)) if norm is None else norm
        for norm in (heads.q_norm, heads.k_norm)
    )
    sinks = mx.zeros((heads.heads,)) if heads.sinks is None else heads.sinks
    out = mx.concatenate([header, *norms, sinks])
    mx.eval(out)
    return out


def _step_table(layout: Layout, before: mx.array | None) -> mx.array:
    """Lay out (decodes, 4 + pages): position, starts of the tail and the one before, 0, pages."""
    rows = layout.decodes
    far, zero = nothing(mx.int32, FAR, rows), nothing(mx.int32, 0, rows)
    starts = (far if array is None else array for array in (layout.tails, before))
    columns = [each[:, None] for each in (layout.positions[:rows], *starts, zero)]
    tables = layout.tables[:rows]
    filler = [zero[:, None]] * max(0, 4 - tables.shape[1])  # 8 elements at least
    return mx.concatenate([*columns, tables, *filler], axis=1)
