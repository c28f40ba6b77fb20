"""What paged attention shares with its callers: a layer's pages, and the layout of a step."""

from dataclasses import dataclass

import mlx.core as mx

PAGE = (
    32  # tokens a page; 16 to 64 work alike, 32 keeps a page of one head at 8 KB (128 wide, 16 bit)
)


@dataclass(frozen=True, slots=True)
class Pages:
    """One layer's pool: a cache handle; an operation that appends takes one and returns the next.

    keys and values: (pages, kv_heads, PAGE, head_dim). Page 0 is nobody's: padding points at it.
    """

    keys: mx.array
    values: mx.array


@dataclass(frozen=True, slots=True)
class Prefill:
    """A run of one sequence's prompt: rows `start` to `stop` of the flat step."""

    start: int
    stop: int
    context: int  # tokens in the cache once this step is appended
    table: mx.array  # (ceil(context / PAGE),) int32, this sequence's pages in order


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a step's rows belong; the first `decodes` rows are sequences with one token each."""

    positions: mx.array  # (rows,) int32
    slots: mx.array  # (rows,) int32, page * PAGE + offset: where a row's key and value go
    decodes: int
    tables: mx.array  # (decodes, most pages) int32, padded with page 0
    contexts: mx.array  # (decodes,) int32, tokens in the cache once this step is appended
    prefills: tuple[Prefill, ...]
