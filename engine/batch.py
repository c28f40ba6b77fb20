"""The arrays of one step, from what the scheduler wants computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..kernels.pages import PAGE, Layout, Prefill
from .scheduler import Work


@dataclass(frozen=True, slots=True)
class Batch:
    """Flat rows, one a token; `rows` are those whose logits are wanted, in the work's order."""

    tokens: mx.array  # (rows,) int32
    layout: Layout
    rows: mx.array  # (wanted,) int32


def build(work: Sequence[Work]) -> Batch:
    """Work of one token first, as the layout wants it; the scheduler gives it in that order."""
    decodes = sum(item.sequence.pending == 1 for item in work)
    tokens = np.concatenate([_tokens(item) for item in work]).astype(np.int32)
    positions = np.concatenate([_positions(item) for item in work])
    slots = np.concatenate([_slots(item) for item in work])
    layout = Layout(
        positions=mx.array(positions.astype(np.int32)),
        slots=mx.array(slots.astype(np.int32)),
        decodes=decodes,
        tables=_tables(work[:decodes]),
        contexts=mx.array([item.sequence.computed + 1 for item in work[:decodes]], dtype=mx.int32),
        prefills=_prefills(work[decodes:], decodes),
    )
    return Batch(mx.array(tokens), layout, mx.array(_wanted(work), dtype=mx.int32))


def wanted(item: Work) -> int:
    """How many rows of logits an item of work asks for."""
    if item.sequence.request.prompt_logprobs is not None and not item.sequence.generated:
        return item.count
    return int(item.last)


def _tokens(item: Work) -> np.ndarray:
    start = item.sequence.computed
    return np.array(item.sequence.tokens[start : start + item.count])


def _positions(item: Work) -> np.ndarray:
    return np.arange(item.sequence.computed, item.sequence.computed + item.count)


def _slots(item: Work) -> np.ndarray:
    positions = _positions(item)
    pages = np.array(item.sequence.pages, dtype=np.int32)
    slots: np.ndarray = pages[positions // PAGE] * PAGE + positions % PAGE
    return slots


def _table(item: Work) -> list[int]:
    return item.sequence.pages[: -(-(item.sequence.computed + item.count) // PAGE)]


def _tables(decodes: Sequence[Work]) -> mx.array:
    tables = [_table(item) for item in decodes]
    padded = np.zeros((len(tables), max(map(len, tables), default=0)), dtype=np.int32)
    for row, table in enumerate(tables):
        padded[row, : len(table)] = table
    return mx.array(padded)


def _prefills(work: Sequence[Work], start: int) -> tuple[Prefill, ...]:
    prefills = []
    for item in work:
        context = item.sequence.computed + item.count
        table = mx.array(_table(item), dtype=mx.int32)
        prefills.append(Prefill(start, start + item.count, context, table))
        start += item.count
    return tuple(prefills)


def _wanted(work: Sequence[Work]) -> list[int]:
    rows: list[int] = []
    end = 0
    for item in work:
        end += item.count
        rows += range(end - wanted(item), end)
    return rows
