"""What paged attention shares with its callers: heads, a layer's pages, the layout of a step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import mlx.core as mx

PAGE = (
    32  # tokens a page; 16 to 64 work alike, 32 keeps a page of one head at 8 KB (128 wide, 16 bit)
)
TAIL_PAGES = 2  # so that tails are brought into the pool every 32 tokens, whoever is where
TOKEN = 8  # elements of a pool's first token; what has fewer goes to Metal in constant memory
GROUP = 32  # values of one head and token that share a scale, where they are quantized


class Format(StrEnum):
    """How keys and values are stored; the quantized ones have a scale, `int4` a bias too."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def dtype(self) -> mx.Dtype:
        """Of the codes; two of 4 bits share a byte."""
        return DTYPES[self]


DTYPES = {
    Format.FLOAT32: mx.float32,
    Format.FLOAT16: mx.float16,
    Format.BFLOAT16: mx.bfloat16,
    Format.INT8: mx.int8,
    Format.INT4: mx.uint8,
}
Part = mx.array | None
Parts = tuple[mx.array, Part, Part, Part, Part, Part]
FORMATS = {dtype: format for format, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """A layer's attention. Norms are (head_dim,), sinks (heads,); both float32 and evaluated.

    Rotary positions turn dimensions `turned_from` on, as many as the step's table has;
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
    turned_from: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """The latest tokens of decoding sequences, apart from an immutable pool (Metal only).

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

    On Metal a pool is brought up to date in one of three ways: it is immutable and what is new is
    in the layout's tails; or `token` is given and it is written in place, where whoever touches it
    later must be given the token of the last writer; or, as everywhere else, it is replaced.

    keys: (pages, kv_heads, head_dim, PAGE), so that a score's lanes are tokens; values: (pages,
    kv_heads, PAGE, value_dim), or None where a value is the beginning of its key. Scales and
    biases are float16 and alike, with groups for dimensions. Page 0 is nobody's: padding points
    at it.
    """

    keys: mx.array
    values: mx.array | None
    key_scales: mx.array | None = None
    key_biases: mx.array | None = None
    value_scales: mx.array | None = None
    value_biases: mx.array | None = None
    tail: Tail | None = None  # tokens that are not in the pool yet; they count before the pool's
    token: mx.array | None = None  # of whoever wrote the pool last, where it is written in place

    @property
    def format(self) -> Format:
        return FORMATS[self.keys.dtype]

    @property
    def arrays(self) -> list[mx.array]:
        """What has to be evaluated: the pool's arrays, the tail's, the token."""
        tail = [] if self.tail is None else self.tail.pages.arrays
        return [*(part for part in (*self.parts, self.token) if part is not None), *tail]

    @property
    def parts(self) -> "Parts":
        """The pool's arrays, in the order of the fields."""
        scales = (self.key_scales, self.key_biases, self.value_scales, self.value_biases)
        return self.keys, self.values, *scales


def flush(pages: Pages, moves: Sequence[tuple[int, int, int]], keep: bool) -> Pages:
    """Brings pages of tails into the pool; each of `moves` is a row, a part of its tail, a page.

    The update is functional, and in place where nobody but the result refers to the old pool when
    it is evaluated. With `keep` the rows go on with their tails.
    """
    tail = pages.tail
    kept = tail if keep else None
    if tail is None or not moves:
        return replace(pages, tail=kept)
    source = mx.array([row * TAIL_PAGES + part for row, part, _ in moves], mx.int32)
    into = mx.array([page for *_, page in moves], mx.int32)
    old, new = pages.parts, tail.pages.parts
    moved = (_moved(a, b, source, into) for a, b in zip(old, new, strict=True))
    return replace(pages_of(moved), tail=kept, token=pages.token)


def pages_of(parts: Iterable[Part]) -> Pages:
    """A pool of these arrays, in the order of `Pages.parts`."""
    keys, values, key_scales, key_biases, value_scales, value_biases = parts
    assert keys is not None
    return Pages(keys, values, key_scales, key_biases, value_scales, value_biases)


def _moved(pool: Part, tail: Part, source: mx.array, into: mx.array) -> Part:
    if pool is None or tail is None:
        return None
    moved = pool.reshape(pool.shape)  # a handle of its own, since assigning changes the handle
    moved[into] = tail[source]
    return moved


def zeros(pages: int, kv_heads: int, head_dim: int, value_dim: int, format: Format) -> Pages:
    """A layer's pool; without values if value_dim is 0."""
    keys, scales, biases = (
        None if width is None else mx.zeros((pages, kv_heads, width, PAGE), dtype)
        for width, dtype in _stored(head_dim, format)
    )
    assert keys is not None
    if not value_dim:
        return Pages(keys, None, scales, biases)
    values, value_scales, value_biases = (
        None if width is None else mx.zeros((pages, kv_heads, PAGE, width), dtype)
        for width, dtype in _stored(value_dim, format)
    )
    return Pages(keys, values, scales, biases, value_scales, value_biases)


def page_bytes(kv_heads: int, head_dim: int, value_dim: int, format: Format) -> int:
    """What a page of one layer takes."""
    widths = [*_stored(head_dim, format), *_stored(value_dim, format)]
    return kv_heads * PAGE * sum((width or 0) * dtype.size for width, dtype in widths)


def _stored(dim: int, format: Format) -> tuple[tuple[int | None, mx.Dtype], ...]:
    """Width and dtype of codes, scales and biases; None for those that the format lacks."""
    codes = dim // 2 if format == Format.INT4 else dim
    groups = -(-dim // GROUP)
    scales = groups if format in (Format.INT8, Format.INT4) else None
    biases = groups if format == Format.INT4 else None
    return (codes, format.dtype), (scales, mx.float16), (biases, mx.float16)


@dataclass(frozen=True, slots=True)
class Prefill:
    """A run of one sequence's prompt: rows `start` to `stop` of the flat step."""

    start: int
    stop: int
    context: int  # tokens in the cache once this step is appended


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where a step's rows belong.

    The first `decodes` rows are sequences with one token each; the runs of the others follow, in
    the order of the sequences. A row sees its own position and what is before it.
    """

    positions: mx.array  # (rows,) int32
    slots: mx.array  # (rows,) int32, page * PAGE + offset: where a row's key and value go
    owners: mx.array  # (rows,) int32, the sequence of each row
    tables: mx.array  # (sequences, most pages) int32: pages in order, padded with page 0
    decodes: int
    prefills: tuple[Prefill, ...]
    tails: mx.array | None = None  # (rows,) int32: each row's Tail.starts after the step
