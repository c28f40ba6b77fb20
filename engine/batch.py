"""The arrays of one step, from what the scheduler wants computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import mlx.core as mx
import numpy as np

from ..architectures.step import StepRows
from ..kernels.attention.pages import PAGE, Layout, Prefill
from ..kernels.recurrent.runs import Runs
from ..kernels.registry import bucket
from .scheduler import Work
from .sequence import Unread


@dataclass(frozen=True, slots=True)
class Output:
    """What comes of a step: `logits` and, where texts are embedded, their rows' hidden states."""

    logits: mx.array  # (logits, vocabulary)
    hidden: mx.array | None = None  # (embedded, width) float32, after the last norm


@dataclass(frozen=True, slots=True)
class Batch:
    """The arrays of a step: flat rows, one a token, and the numbers of those that get logits.

    `copies` of states come first, each from one state slot to another, in their order.
    """

    tokens: mx.array  # (rows,) int32
    step: StepRows
    rows: mx.array  # (logits,) int32, in the work's order
    sequences: tuple[int, ...]  # request numbers, in the work's order
    positions: np.ndarray  # as in the step
    tables: tuple[np.ndarray, ...]  # as in the step's layouts
    decodes: int  # sequences with one token each, which come first
    copies: tuple[tuple[int, int], ...] = ()
    embedded: mx.array | None = None  # (embedded,) int32: rows whose hidden states are wanted

    @property
    def decoding(self) -> bool:
        """Return whether each row is the one pending token of its sequence."""
        return self.decodes == len(self.sequences)

    @property
    def answering(self) -> bool:
        """Return whether besides each row gets logits, and no more is wanted."""
        return self.decoding and self.embedded is None


def build(work: Sequence[Work], copies: Sequence[tuple[int, int]] = ()) -> Batch:
    """Build a step's arrays; the scheduler gives work of one token first, as layouts ask for it."""
    counts, sequences = [item.count for item in work], [item.sequence for item in work]
    positions = positions_of([sequence.computed for sequence in sequences], counts)
    decodes = sum(sequence.pending == 1 for sequence in sequences)
    tables = _tables(work)
    state_slots = [sequence.pages.state_slot for sequence in sequences]
    max_lens = [sequence.max_len for sequence in sequences]
    return Batch(
        _tokens(work),
        build_step(positions, counts, tables, decodes, state_slots, max_lens),
        mx.array(np.array(_logit_rows(work), dtype=np.int32)),
        tuple(sequence.request.id for sequence in sequences),
        positions,
        tables,
        decodes,
        tuple(copies),
        _embedded(work),
    )


def positions_of(starts: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """Return (rows,) int32: for each sequence so many positions from its start on."""
    each = zip(starts, counts, strict=True)
    return np.concatenate([np.arange(start, start + n) for start, n in each]).astype(np.int32)


def build_step(
    positions: np.ndarray,
    counts: Sequence[int],
    tables: Sequence[np.ndarray],
    decodes: int,
    state_slots: Sequence[int],
    max_lens: Sequence[int],
) -> StepRows:
    """Build a step of the rows at these positions, `counts` of them a sequence.

    tables: a group's pages by sequence. `decodes` sequences with one row come first. State slots
    are 0, or there are none, where layers keep no states; max_lens likewise where no rope varies.
    """
    owners = np.arange(len(counts), dtype=np.int32)
    if decodes < len(counts):
        owners = np.repeat(owners, counts)
    runs = [(stop - count, stop) for stop, count in zip(accumulate(counts), counts, strict=True)]
    prefills = tuple(Prefill(*run, int(positions[run[1] - 1]) + 1) for run in runs[decodes:])
    placed, belong = mx.array(positions), mx.array(owners)
    slots = [table[owners, positions // PAGE] * PAGE + positions % PAGE for table in tables]
    layouts = tuple(
        Layout(placed, mx.array(slot_mapping), belong, mx.array(table), decodes, prefills)
        for slot_mapping, table in zip(slots, tables, strict=True)
    )
    states = None
    if any(state_slots):
        fresh = [bool(positions[start] == 0) for start, _ in runs]
        states = Runs.of(list(counts), list(state_slots), fresh)
    return StepRows(
        layouts,
        placed,
        states,
        np.repeat(np.array(max_lens, np.int32), counts) if any(max_lens) else None,
    )


def logit_count(item: Work) -> int:
    """Count the rows of logits that an item of work asks for."""
    if item.sequence.request.embeds:
        return 0
    if item.sequence.request.prompt_logprobs is not None and not item.sequence.generated:
        return item.count
    return int(item.last)


def _tokens(work: Sequence[Work]) -> mx.array:
    """Return (rows,) int32; what is not read yet is taken from where it was drawn."""
    known: list[int] = []
    rows: list[int] = []
    for item in work:
        start = item.sequence.computed
        known += item.sequence.tokens[start : start + item.count]
        if item.sequence.unread is not None:
            rows.append(len(known))
            known.append(0)
    tokens = mx.array(np.array(known, np.int32))
    return _with_unread(tokens, rows, [i.sequence.unread for i in work if i.sequence.unread])


def _with_unread(tokens: mx.array, rows: list[int], unread: list[Unread]) -> mx.array:
    """Return the tokens with those drawn put into these rows; all come from one draw."""
    if not unread:
        return tokens
    drawn, indices = unread[0].tokens, [each.index for each in unread]
    assert all(each.tokens is drawn for each in unread)
    if indices == list(range(drawn.shape[0])):
        if len(rows) == tokens.shape[0]:
            return drawn
    else:
        drawn = drawn[mx.array(indices, mx.int32)]
    tokens[mx.array(rows, mx.int32)] = drawn
    return tokens


def _tables(work: Sequence[Work]) -> tuple[np.ndarray, ...]:
    """Return each cache group's page tables, (sequences, width), padded with the null page.

    Widths are few, for a step is traced for each.
    """
    used = [-(-(item.sequence.computed + item.count) // PAGE) for item in work]
    groups = range(len(work[0].sequence.pages.tables))
    tables = tuple(np.zeros((len(work), bucket(max(used))), dtype=np.int32) for _ in groups)
    for group, table in enumerate(tables):
        for row, item, count in zip(table, work, used, strict=True):
            row[:count] = item.sequence.pages.tables[group][:count]
    return tables


def _logit_rows(work: Sequence[Work]) -> list[int]:
    rows: list[int] = []
    end = 0
    for item in work:
        end += item.count
        rows += range(end - logit_count(item), end)
    return rows


def _embedded(work: Sequence[Work]) -> mx.array | None:
    if not any(item.sequence.request.embeds for item in work):
        return None
    embeds = np.repeat([item.sequence.request.embeds for item in work], [i.count for i in work])
    return mx.array(np.flatnonzero(embeds).astype(np.int32))
