"""The arrays of one step, from what the scheduler wants computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..architectures.step import Step
from ..kernels.attention.pages import PAGE, Layout, Prefill
from ..kernels.recurrent.runs import Runs
from .scheduler import Work


@dataclass(frozen=True, slots=True)
class Batch:
    """The arrays of a step: flat rows, one a token, and the numbers of those that get logits.

    `copies` of states come first, each from one state slot to another, in their order.
    """

    tokens: mx.array  # (rows,) int32
    step: Step
    rows: mx.array  # (logits,) int32, in the work's order
    sequences: tuple[int, ...]  # request numbers, in the work's order
    positions: np.ndarray  # as in the step
    tables: tuple[np.ndarray, ...]  # as in the step's layouts
    decodes: int  # sequences with one token each, which come first
    copies: tuple[tuple[int, int], ...] = ()


def build(work: Sequence[Work], copies: Sequence[tuple[int, int]] = ()) -> Batch:
    """Build a step's arrays; work of one token comes first, in which order the scheduler gives it.

    Layouts ask for that order.
    """
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
        Layout(
            placed,
            _slot_mapping(table, owners, positions),
            belong,
            mx.array(table),
            decodes,
            prefills,
        )
        for table in tables
    )
    step = Step(layouts, placed, _runs(work), _max_lens(work, counts))
    tokens = np.concatenate([_tokens(item) for item in work]).astype(np.int32)
    return Batch(
        mx.array(tokens),
        step,
        mx.array(np.array(_logit_rows(work), dtype=np.int32)),
        tuple(item.sequence.request.id for item in work),
        positions,
        tables,
        decodes,
        tuple(copies),
    )


def logit_count(item: Work) -> int:
    """Count the rows of logits that an item of work asks for."""
    if item.sequence.request.prompt_logprobs is not None and not item.sequence.generated:
        return item.count
    return int(item.last)


def _tokens(item: Work) -> np.ndarray:
    start = item.sequence.computed
    return np.array(item.sequence.tokens[start : start + item.count])


def _tables(work: Sequence[Work]) -> tuple[np.ndarray, ...]:
    """Return each cache group's page tables, (sequences, longest), padded with the null page."""
    used = [-(-(item.sequence.computed + item.count) // PAGE) for item in work]
    groups = range(len(work[0].sequence.pages.tables))
    tables = tuple(np.zeros((len(work), max(used)), dtype=np.int32) for _ in groups)
    for group, table in enumerate(tables):
        for row, item, count in zip(table, work, used, strict=True):
            row[:count] = item.sequence.pages.tables[group][:count]
    return tables


def _slot_mapping(table: np.ndarray, owners: np.ndarray, positions: np.ndarray) -> mx.array:
    return mx.array(table[owners, positions // PAGE] * PAGE + positions % PAGE)


def _runs(work: Sequence[Work]) -> Runs | None:
    """Return the runs of the sequences' states; None where layers keep none."""
    if not work[0].sequence.pages.state_slot:
        return None
    return Runs.of(
        [item.count for item in work],
        [item.sequence.pages.state_slot for item in work],
        [item.sequence.computed == 0 for item in work],
    )


def _max_lens(work: Sequence[Work], counts: Sequence[int]) -> mx.array | None:
    """Return each row's max_len, (rows,) int32; None where no rope asks for it."""
    if not work[0].sequence.max_len:
        return None
    max_lens = np.array([item.sequence.max_len for item in work], dtype=np.int32)
    return mx.array(np.repeat(max_lens, counts))


def _prefills(work: Sequence[Work], start: int) -> tuple[Prefill, ...]:
    prefills = []
    for item in work:
        context = item.sequence.computed + item.count
        prefills.append(Prefill(start, start + item.count, context))
        start += item.count
    return tuple(prefills)


def _logit_rows(work: Sequence[Work]) -> list[int]:
    rows: list[int] = []
    end = 0
    for item in work:
        end += item.count
        rows += range(end - logit_count(item), end)
    return rows
