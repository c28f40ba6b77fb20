"""Attention of a step by Metal kernels: decoding rows fused in one launch, two where it splits."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import mlx.core as mx

from ..metal.library import Value, kernel, nothing, padded, scalar
from ..norm.rms_norm import rms_norm
from .paged_attention import append
from .pages import PAGE, TAIL_PAGES, TOKEN, Format, Heads, Layout, Pages, Tail, pages_of, zeros
from .prefill_attention import with_prompts
from .rope import Table, rope

BITS = {Format.INT8: 8, Format.INT4: 4}  # of codes that are not the values themselves
MULTIPLES = {Format.INT4: 8}  # what a head's width must be a multiple of, if not of 4
SUMS = 32  # a lane's sums of values: more heads than fit are left to other threadgroups
THREADS = 128
READ, TAIL, IN_PLACE = range(3)  # as in metal/page.h
POOL = ("keys", "values", "key_scales", "key_biases", "value_scales", "value_biases")
SPLITS = 32  # at most, so that one simdgroup merges them
BUSY = 256  # threadgroups that are enough for a GPU
HEADER = 12  # numbers before the norms in `layer`, as in attention.metal
FAR = 1 << 30  # beyond all positions
LOG2E = 1.4426950408889634


def covered(heads: Heads, format: Format) -> bool:
    """Whether the kernels are for heads of this width; others are left to the composition."""
    multiple = MULTIPLES.get(format, 4)
    return heads.head_dim % multiple == 0 and heads.value_dim % multiple == 0


def attention_metal(
    qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> tuple[mx.array, Pages]:
    """As `attention`. Which way the pool is brought up to date is seen from the pages and layout:

    with the layout's tails, for steps of decoding rows alone, the pool stays and the result has
    the next tail; with a token, the pool is written in place and the output is the next token;
    else the pool is replaced. Prompts among the rows are attended to by `prefill_attention`, once
    all of the step is in the pool.
    """
    rows, decodes = layout.positions.shape[0], layout.decodes
    if not rows:
        return mx.zeros((0, heads.heads * heads.value_dim), qkv.dtype), pages
    if layout.tails is not None:
        assert decodes == rows and pages.token is None
        return _tailed(qkv, heads, table, pages, layout)
    assert pages.tail is None
    if pages.token is not None and decodes == rows:
        out = _launch(IN_PLACE, qkv, heads, table, pages, layout)[0]
        return out, replace(pages, token=out)
    pages = _appended(qkv, heads, table, pages, layout)
    decoded = [_launch(READ, qkv[:decodes], heads, table, pages, layout)[0]] if decodes else []
    return with_prompts(decoded, qkv, heads, table, pages, layout)


def self_test(iterations: int) -> bool:
    """Whether this device keeps to writing in place: what a kernel wrote, the next one reads.

    A sequence of 40 tokens over two pages begins anew again and again, the pages changing places,
    with two steps in flight. Keys are 0, so that a step's output is the mean of the values so far.
    """
    length, heads = 40, Heads(4, 1, 32, 1.0, 32)
    pages = replace(zeros(3, 1, 32, 32, Format.FLOAT32), token=mx.zeros((TOKEN,)))
    mx.eval(pages.arrays)
    found, wanted = [], []
    for i in range(iterations):
        turn, position = divmod(i, length)
        values = [float((7 * j) % 61 - 30) for j in range(i - position, i + 1)]
        wanted.append(sum(values) / len(values))
        out, pages = attention_metal(
            mx.concatenate([mx.zeros((1, 160)), mx.full((1, 32), values[-1])], axis=1),
            heads,
            Table(mx.zeros((1, 1, 0)), mx.zeros((1, 1, 0))),
            pages,
            _alone(position, (1 + turn % 2, 2 - turn % 2)),
        )
        found.append(out)
        mx.async_eval(out)  # type: ignore[no-untyped-call]
        if i > 1:
            mx.eval(found[i - 2])
    error = mx.abs(mx.concatenate(found) - mx.array(wanted)[:, None])
    return bool(mx.all(error < 1e-3))  # False for NaN


def _alone(position: int, table: tuple[int, ...]) -> Layout:
    slot = table[position // PAGE] * PAGE + position % PAGE
    positions, slots, owners = (mx.array([n], mx.int32) for n in (position, slot, 0))
    return Layout(positions, slots, owners, mx.array([table], mx.int32), 1, ())


def _tailed(
    qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> tuple[mx.array, Pages]:
    assert layout.tails is not None
    out, *new = _launch(TAIL, qkv, heads, table, pages, layout)
    tail = Tail(_pages(new, pages), layout.tails)
    return out, replace(pages, tail=tail)


def _pages(parts: Sequence[mx.array], like: Pages) -> Pages:
    """The arrays that a pool like this has; the others were made for form's sake."""
    every = [*parts, *[None] * (len(like.parts) - len(parts))]
    pairs = zip(every, like.parts, strict=True)
    return pages_of(new if old is not None else None for new, old in pairs)


def _appended(qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout) -> Pages:
    """In float32 up to what is stored, as the kernels do it; in place where there is a token."""
    start = heads.heads * heads.head_dim
    stop = start + heads.kv_heads * heads.head_dim
    k = qkv[:, start:stop].reshape(-1, heads.kv_heads, heads.head_dim).astype(mx.float32)
    v = qkv[:, stop:].reshape(-1, heads.kv_heads, heads.value_dim)
    if heads.k_norm is not None:
        k = rms_norm(k, heads.k_norm, heads.eps)
    k = rope(k, table, heads.interleaved, heads.turned_from)
    if pages.token is None:
        return append(k, v, pages, layout)
    (done,) = kernel("append_pages", in_place=_written(pages))(
        [*map(padded, (k, v, layout.slots)), *_all(pages), _token(pages, qkv.dtype)],
        [((TOKEN,), mx.float32)],
        (32, heads.kv_heads, qkv.shape[0]),
        (32, 1, 1),
        T=qkv.dtype,
        S=pages.keys.dtype,
        BITS=BITS.get(pages.format, 0),
        D=heads.head_dim,
        V=heads.value_dim,
    )
    return replace(pages, token=done)


def _launch(
    mode: int, qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> list[mx.array]:
    """The output, and what the kernel gives besides."""
    group, dtype, rows = heads.heads // heads.kv_heads, qkv.dtype, qkv.shape[0]
    together = _together(group, heads.value_dim)
    blocks = -(-group // together)
    pairs = table.cos.shape[-1]
    layer = _layer(heads, pairs)
    splits = _splits(layout, heads, pages.format, rows * heads.kv_heads * blocks)
    outputs: list[tuple[Sequence[int], mx.Dtype]] = [
        ((rows, heads.heads * heads.value_dim), dtype)
        if splits == 1
        else ((rows, heads.heads, splits, heads.value_dim + 4), dtype)
    ]
    starts = None if pages.tail is None else pages.tail.starts
    step = _step(layout, starts)  # pyright: ignore[reportArgumentType]  # hashed by identity
    inputs = [qkv, layer, padded(table.cos), padded(table.sin), step]
    inputs += _parts(pages)
    name = "attention_quantized" if pages.format in BITS else "attention"
    template: dict[str, Value] = {"T": dtype, "S": pages.keys.dtype, "SPLIT": splits > 1}
    template |= {"D": heads.head_dim, "V": heads.value_dim, "G": group, "H": together}
    if pages.format in BITS:
        template["BITS"] = BITS[pages.format]
    if mode == TAIL:
        chosen = kernel(name, f"{name}_tail")
        inputs += _parts(pages if pages.tail is None else pages.tail.pages)
        outputs += _tail_outputs(pages, rows)
    else:
        chosen = kernel(name, in_place=_written(pages) if mode == IN_PLACE else ())
        inputs.append(_token(pages, dtype))
        template["MODE"] = mode
    found = chosen(
        inputs,
        outputs,
        (splits * THREADS, heads.kv_heads * blocks, rows),
        (THREADS, 1, 1),
        **template,
    )
    if splits > 1:
        found[0] = _merged(found[0], heads, layer)
    return found


def _merged(parts: mx.array, heads: Heads, layer: mx.array) -> mx.array:
    rows = parts.shape[0]
    sinks = 0 if heads.sinks is None else HEADER + 2 * heads.head_dim
    (out,) = kernel("attention_merge")(
        [parts, layer, scalar(sinks, mx.int32)],
        [((rows, heads.heads * heads.value_dim), parts.dtype)],
        (32, heads.heads, rows),
        (32, 1, 1),
        T=parts.dtype,
        V=heads.value_dim,
    )
    return out


def _token(pages: Pages, dtype: mx.Dtype) -> mx.array:
    """In the one type that the kernels are compiled for; a pool's first one may have another."""
    if pages.token is None:
        return nothing(dtype)
    return pages.token if pages.token.dtype == dtype else pages.token.astype(dtype)


def _written(pages: Pages) -> tuple[str, ...]:
    pairs = zip(POOL, pages.parts, strict=True)
    return tuple(name for name, array in pairs if array is not None)


def _together(group: int, value_dim: int) -> int:
    """Heads of a threadgroup, so that all threadgroups of a key head have about as many."""
    most = max(1, SUMS // (4 * -(-value_dim // 128)))
    return -(-group // -(-group // most))


def _splits(layout: Layout, heads: Heads, format: Format, groups: int) -> int:
    """A power of two, from what is known without waiting for the GPU.

    A split costs 2 * heads * value_dim values, so that it should have many tokens; and its four
    simdgroups want a page each.
    """
    longest = layout.tables.shape[1] * PAGE
    if heads.window is not None:
        longest = min(longest, heads.window + 2 * PAGE)
    wide = 32 * (heads.heads // heads.kv_heads) * 16 // BITS.get(format, 16)
    most = min(SPLITS, BUSY // groups, longest // max(4 * PAGE, wide))
    return 1 << max(0, most.bit_length() - 1)


def _all(pages: Pages) -> list[mx.array]:
    """A pool's arrays, and something of the right type for those that it lacks."""
    absent = nothing(mx.float16)
    return [absent if array is None else array for array in pages.parts]


def _parts(pages: Pages) -> list[mx.array]:
    """What the kernel for such pages takes: codes alone, or all."""
    return _all(pages) if pages.format in BITS else _all(pages)[:2]


def _tail_outputs(pages: Pages, rows: int) -> list[tuple[Sequence[int], mx.Dtype]]:
    return [((rows * TAIL_PAGES, *array.shape[1:]), array.dtype) for array in _parts(pages)]


@lru_cache(maxsize=1024)
def _layer(heads: Heads, pairs: int) -> mx.array:
    """What is the same in every step, in the order of attention.metal."""
    cap = heads.softcap or 0.0
    numbers = [
        *(heads.scale / cap if cap else heads.scale * LOG2E, cap * LOG2E, heads.eps),
        *(pairs, heads.turned_from, heads.interleaved, heads.window or 0),
        *(array is not None for array in (heads.q_norm, heads.k_norm, heads.sinks)),
    ]
    header = mx.array([*map(float, numbers), *[0.0] * (HEADER - len(numbers))], mx.float32)
    norms = (
        mx.ones((heads.head_dim,)) if norm is None else norm
        for norm in (heads.q_norm, heads.k_norm)
    )
    sinks = mx.zeros((heads.heads,)) if heads.sinks is None else heads.sinks
    made = mx.concatenate([header, *norms, sinks])
    mx.eval(made)
    return made


@lru_cache(maxsize=4)  # the layers of a step ask for the same one after the other
def _step(layout: Layout, before: mx.array | None) -> mx.array:
    """(decodes, 4 + pages): position, start of the tail, start of the tail before, 0, pages."""
    rows = layout.decodes
    far = mx.full((rows,), FAR, mx.int32)
    starts = (far if array is None else array for array in (layout.tails, before))
    columns = [layout.positions[:rows], *starts, mx.zeros((rows,), mx.int32)]
    tables = layout.tables[:rows]
    short = max(0, 4 - tables.shape[1])  # 8 elements at least
    filler = mx.zeros((rows, short), mx.int32)
    return mx.concatenate([mx.stack(columns, axis=1), tables, filler], axis=1)
