"""What paged attention shares with its callers: heads, a layer's pages, the layout of a step."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import prod
from typing import Any, TypeVar, TypeVarTuple

import mlx.core as mx

from ..cpu.memory import blank

PAGE = 32  # tokens; 16 to 64 work alike, 32 keeps a page of one head at 8 KB (128 wide, 16 bit)
TAIL_PAGES = 2  # so that tails are brought into the pool every 32 tokens, whoever is where
FENCE = 8  # elements of a pool's first fence; what has fewer goes to Metal in constant memory
GROUP = 32  # values of one head and token that share a scale, where they are quantized


class Format(StrEnum):
    """The storage of keys and values; the quantized ones have a scale, `int4` a bias too."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the codes; two of 4 bits share a byte."""
        return DTYPES[self]


class Append(StrEnum):
    """The way new keys and values come into a pool: set where the pool is allocated."""

    FUNCTIONAL = "functional"  # each step replaces the pool; in C, its contents
    TAIL = "tail"  # steps that only decode leave it alone: what is new is in tails
    IN_PLACE = "in-place"  # kernels write it, one after the other by a fence


DTYPES = {
    Format.FLOAT32: mx.float32,
    Format.FLOAT16: mx.float16,
    Format.BFLOAT16: mx.bfloat16,
    Format.INT8: mx.int8,
    Format.INT4: mx.uint8,
}
Part = mx.array | None
Parts = tuple[mx.array, Part, Part, Part, Part, Part]
Size = tuple[tuple[int, int, int], mx.Dtype] | None
FORMATS = {dtype: format for format, dtype in DTYPES.items()}
T = TypeVar("T")
Keys = TypeVarTuple("Keys")


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """A layer's attention. Norms are (head_dim,), sinks (heads,); both float32 and evaluated.

    Rotary positions apply to dimensions from `rope_offset` on, as many as the step's table has;
    `interleaved` pairs neighbours instead of halves. A window counts the row itself.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    value_dim: int
    window: int | None = None
    softcap: float | None = None
    sinks: mx.array | None = None
    q_norm: mx.array | None = None
    k_norm: mx.array | None = None
    eps: float = 0.0
    interleaved: bool = False
    rope_offset: int = 0

    @property
    def form(self) -> tuple[Hashable, ...]:
        """All but the numbers of norms and sinks: layers alike in it run the same kernels."""
        parts = (self.sinks, self.q_norm, self.k_norm)
        sizes = (self.heads, self.kv_heads, self.head_dim, self.value_dim, self.rope_offset)
        kinds = (self.scale, self.window, self.softcap, self.eps, self.interleaved)
        return (*sizes, *kinds, *(part is None for part in parts))


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """The latest tokens of decoding sequences, outside an immutable pool (Metal only).

    Row i of the step before holds TAIL_PAGES pages from i * TAIL_PAGES on in `pages`, which has
    the form of the pool; the first begins at position starts[i], a multiple of PAGE. A row may
    stay, while its start goes on by pages that have been flushed; where rows come or go, tails are
    flushed and dropped. What follows a row's last token is undefined.
    """

    pages: "Pages"
    starts: mx.array  # (rows,) int32


@dataclass(frozen=True, slots=True, eq=False)
class Pages:
    """One layer's pool: a cache handle; an operation that appends takes one and returns the next.

    `append` says how it is brought up to date. A pool with tails is immutable while steps decode
    only: their layouts have `tails`. One that is written in place has a fence, which depends on
    the last writer: whoever touches the pool later must be given it.

    keys: (pages, kv_heads, head_dim, PAGE), so that a score's lanes are tokens; values: (pages,
    kv_heads, PAGE, value_dim), or None where a value is the beginning of its key. Scales and
    biases are float16 and alike, with groups for dimensions. Page 0 is the null page: padding
    points at it.
    """

    keys: mx.array
    values: mx.array | None
    key_scales: mx.array | None = None
    key_biases: mx.array | None = None
    value_scales: mx.array | None = None
    value_biases: mx.array | None = None
    append: Append = Append.FUNCTIONAL
    tail: Tail | None = None  # tokens that are not in the pool yet; they count before the pool's
    fence: mx.array | None = None  # an output of whatever wrote the pool last, if IN_PLACE

    @property
    def format(self) -> Format:
        return FORMATS[self.keys.dtype]

    @property
    def arrays(self) -> list[mx.array]:
        """The arrays that have to be evaluated: the pool's, the tail's, the fence."""
        tail = [] if self.tail is None else self.tail.pages.arrays
        return [*(part for part in (*self.parts, self.fence) if part is not None), *tail]

    @property
    def parts(self) -> "Parts":
        """The pool's arrays, in the order of the fields."""
        scales = (self.key_scales, self.key_biases, self.value_scales, self.value_biases)
        return self.keys, self.values, *scales

    def with_arrays(self, arrays: Iterator[mx.array], starts: mx.array | None) -> "Pages":
        """Return a handle of the same form; the next of `arrays`, in their order, are its own.

        Its tail, if it has one, begins at `starts`.
        """
        parts = [None if part is None else next(arrays) for part in self.parts]
        fence = None if self.fence is None else next(arrays)
        if self.tail is None:
            return pages_of(parts, self.append, None, fence)
        assert starts is not None
        tail = Tail(self.tail.pages.with_arrays(arrays, None), starts)
        return pages_of(parts, self.append, tail, fence)

    def after(
        self,
        parts: "Iterable[Part] | None" = None,
        *,
        tail: Tail | None = None,
        fence: mx.array | None = None,
    ) -> "Pages":
        """Return the next handle, of these parts or the same ones, appended to in the same way."""
        return pages_of(self.parts if parts is None else parts, self.append, tail, fence)


def flush(pages: Pages, moves: Sequence[tuple[int, int, int]], keep: bool) -> Pages:
    """Bring pages of tails into the pool; each of `moves` is a row, a part of its tail, a page.

    The update is functional, and in place where nobody but the result refers to the old pool when
    it is evaluated. With `keep` the rows go on with their tails.
    """
    tail = pages.tail
    next_tail = tail if keep else None
    if tail is None or not moves:
        return replace(pages, tail=next_tail)
    source = mx.array([row * TAIL_PAGES + part for row, part, _ in moves], mx.int32)
    into = mx.array([page for *_, page in moves], mx.int32)
    old, new = pages.parts, tail.pages.parts
    moved = (_moved(a, b, source, into) for a, b in zip(old, new, strict=True))
    return pages.after(moved, tail=next_tail, fence=pages.fence)


def pages_of(
    parts: Iterable[Part],
    append: Append = Append.FUNCTIONAL,
    tail: Tail | None = None,
    fence: mx.array | None = None,
) -> Pages:
    """Return a pool of these arrays, which come in the order of `Pages.parts`."""
    keys, values, key_scales, key_biases, value_scales, value_biases = parts
    assert keys is not None
    pools = (keys, values, key_scales, key_biases, value_scales, value_biases)
    return Pages(*pools, append, tail, fence)


def _moved(pool: Part, tail: Part, source: mx.array, into: mx.array) -> Part:
    if pool is None or tail is None:
        return None
    moved = pool.reshape(pool.shape)  # another handle, since assigning changes the handle
    moved[into] = tail[source]
    return moved


def zeros(
    pages: int,
    kv_heads: int,
    head_dim: int,
    value_dim: int,
    format: Format,
    append: Append = Append.FUNCTIONAL,
) -> Pages:
    """Allocate a layer's pool; without values if value_dim is 0."""
    sizes = part_sizes(kv_heads, head_dim, value_dim, format)
    parts = (size and blank((pages, *size[0]), size[1]) for size in sizes)
    fence = mx.zeros((FENCE,)) if append is Append.IN_PLACE else None
    return pages_of(parts, append, fence=fence)


def page_bytes(kv_heads: int, head_dim: int, value_dim: int, format: Format) -> int:
    """Return the bytes of a page of one layer."""
    sizes = part_sizes(kv_heads, head_dim, value_dim, format)
    return sum(prod(size[0]) * size[1].size for size in sizes if size)


def part_sizes(kv_heads: int, head_dim: int, value_dim: int, format: Format) -> tuple[Size, ...]:
    """Return shape and dtype of a page's parts, in the order of `Pages.parts`, or None."""
    keys = [_sized((kv_heads, width, PAGE), dtype) for width, dtype in _stored(head_dim, format)]
    values = [_sized((kv_heads, PAGE, width), dtype) for width, dtype in _stored(value_dim, format)]
    return keys[0], values[0], *keys[1:], *values[1:]


def _sized(shape: tuple[int, int, int], dtype: mx.Dtype) -> Size:
    return (shape, dtype) if prod(shape) else None


def _stored(dim: int, format: Format) -> tuple[tuple[int, mx.Dtype], ...]:
    """Return width and dtype of codes, scales and biases; 0 for those that the format lacks."""
    codes = dim // 2 if format == Format.INT4 else dim
    groups = -(-dim // GROUP)
    scales = groups if format in (Format.INT8, Format.INT4) else 0
    biases = groups if format == Format.INT4 else 0
    return (codes, format.dtype), (scales, mx.float16), (biases, mx.float16)


@dataclass(frozen=True, slots=True)
class Prefill:
    """A run of one sequence's prompt: rows `start` to `stop` of the flat step."""

    start: int
    stop: int
    context: int  # tokens in the cache once this step is appended


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The places of a step's rows, and what is prepared from them once for all layers.

    The first `decodes` rows are sequences with one token each; the runs of the others follow, in
    the order of the sequences. A row sees its own position and what is before it.
    """

    positions: mx.array  # (rows,) int32
    slot_mapping: mx.array  # (rows,) int32, page * PAGE + offset: where a row's key and value go
    owners: mx.array  # (rows,) int32, the sequence of each row
    tables: mx.array  # (sequences, pages) int32: pages in order, padded with page 0
    decodes: int
    prefills: tuple[Prefill, ...]
    tails: mx.array | None = None  # (rows,) int32: each row's Tail.starts after the step
    _prepared: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, make: Callable[["Layout", *Keys], T], *keys: *Keys) -> T:
        """Return `make` of this layout and the keys: made for the first layer that asks for it."""
        place = (make, *keys)
        if (known := self._prepared.get(place)) is None:
            known = self._prepared[place] = make(self, *keys)
        return known
