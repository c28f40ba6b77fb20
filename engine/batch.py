"""The arrays of one step, from what the scheduler wants computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..architectures.step import StepRows
from ..kernels.attention.pages import PAGE, Layout, Prefill
from ..kernels.recurrent.runs import Runs
from .scheduler import Work


@dataclass(frozen=True, slots=True)
class Batch:
    """Flat rows, one a token; `rows` are those whose logits are wanted, in the work's order.

    `copies` of states come first, each from one slot to another, in their order.
    """

    tokens: mx.array  # (rows,) int32
    step: StepRows
    rows: mx.array  # (wanted,) int32
    sequences: tuple[int, ...]  # the requests that the work is of
    positions: np.ndarray  # as in the step
    tables: tuple[np.ndarray, ...]  # as in the step's layouts
    decodes: int  # sequences with one token each, which come first
    copies: tuple[tuple[int, int], ...] = ()


def build(work: Sequence[Work], copies: Sequence[tuple[int, int]] = ()) -> Batch:
    """Work of one token first, as layouts want it; the scheduler gives it in that order."""
    counts = [item.count for item in work]
    owners = np.repeat(np.arange(len(work), dtype=np.int32), counts)
    positions = np.concatenate(
        [np.arange(item.sequence.computed, item.sequence.computed + item.count) for item in work]
    ).astype(np.int32)
    decodes = sum(item.sequence.pending == 1 for item in work)
    tables = _tables(work)
    placed, belong = mx.array(positions), mx.array(owners)
    prefills = _prefills(work[decodes:], decodes)
    layouts = tuple(
        Layout(placed, _slots(table, owners, positions), belong, mx.array(table), decodes, prefills)
        for table in tables
    )
    step = StepRows(layouts, placed, _runs(work), _reaches(work, counts))
    tokens = np.concatenate([_tokens(item) for item in work]).astype(np.int32)
    return Batch(
        mx.array(tokens),
        step,
        mx.array(np.array(_wanted(work), dtype=np.int32)),
        tuple(item.sequence.request.id for item in work),
        positions,
        tables,
        decodes,
        tuple(copies),
    )


def wanted(item: Work) -> int:
    """How many rows of logits an item of work asks for."""
    if item.sequence.request.prompt_logprobs is not None and not item.sequence.generated:
        return item.count
    return int(item.last)


def _tokens(item: Work) -> np.ndarray:
    start = item.sequence.computed
    return np.array(item.sequence.tokens[start : start + item.count])


def _tables(work: Sequence[Work]) -> tuple[np.ndarray, ...]:
    """(sequences, most pages) of each cache group, padded with page 0."""
    used = [-(-(item.sequence.computed + item.count) // PAGE) for item in work]
    groups = range(len(work[0].sequence.pages.tables))
    tables = tuple(np.zeros((len(work), max(used)), dtype=np.int32) for _ in groups)
    for group, table in enumerate(tables):
        for row, item, count in zip(table, work, used, strict=True):
            row[:count] = item.sequence.pages.tables[group][:count]
    return tables


def _slots(table: np.ndarray, owners: np.ndarray, positions: np.ndarray) -> mx.array:
    return mx.array(table[owners, positions // PAGE] * PAGE + positions % PAGE)


def _runs(work: Sequence[Work]) -> Runs | None:
    """The sequences' states, where they have any."""
    if not work[0].sequence.pages.state_slot:
        return None
    return Runs.of(
        [item.count for item in work],
        [item.sequence.pages.state_slot for item in work],
        [item.sequence.computed == 0 for item in work],
    )


def _reaches(work: Sequence[Work], counts: Sequence[int]) -> mx.array | None:
    """Where sequences know theirs."""
    if not work[0].sequence.reach:
        return None
    reaches = np.array([item.sequence.reach for item in work], dtype=np.int32)
    return mx.array(np.repeat(reaches, counts))


def _prefills(work: Sequence[Work], start: int) -> tuple[Prefill, ...]:
    prefills = []
    for item in work:
        context = item.sequence.computed + item.count
        prefills.append(Prefill(start, start + item.count, context))
        start += item.count
    return tuple(prefills)


def _wanted(work: Sequence[Work]) -> list[int]:
    rows: list[int] = []
    end = 0
    for item in work:
        end += item.count
        rows += range(end - wanted(item), end)
    return rows
