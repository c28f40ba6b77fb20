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
    sequences: tuple[int, ...]  # the requests that the work is of
    positions: np.ndarray  # as in the layout
    tables: np.ndarray  # as in the layout


def build(work: Sequence[Work]) -> Batch:
    """Work of one token first, as the layout wants it; the scheduler gives it in that order."""
    counts = [item.count for item in work]
    owners = np.repeat(np.arange(len(work), dtype=np.int32), counts)
    positions = np.concatenate(
        [np.arange(item.sequence.computed, item.sequence.computed + item.count) for item in work]
    ).astype(np.int32)
    tables = _tables(work)
    slots = tables[owners, positions // PAGE] * PAGE + positions % PAGE
    decodes = sum(item.sequence.pending == 1 for item in work)
    layout = Layout(
        positions=mx.array(positions),
        slots=mx.array(slots),
        owners=mx.array(owners),
        tables=mx.array(tables),
        decodes=decodes,
        prefills=_prefills(work[decodes:], decodes),
    )
    tokens = np.concatenate([_tokens(item) for item in work]).astype(np.int32)
    return Batch(
        mx.array(tokens),
        layout,
        mx.array(np.array(_wanted(work), dtype=np.int32)),
        tuple(item.sequence.request.id for item in work),
        positions,
        tables,
    )


def wanted(item: Work) -> int:
    """How many rows of logits an item of work asks for."""
    if item.sequence.request.prompt_logprobs is not None and not item.sequence.generated:
        return item.count
    return int(item.last)


def _tokens(item: Work) -> np.ndarray:
    start = item.sequence.computed
    return np.array(item.sequence.tokens[start : start + item.count])


def _tables(work: Sequence[Work]) -> np.ndarray:
    """(sequences, most pages), padded with page 0."""
    used = [-(-(item.sequence.computed + item.count) // PAGE) for item in work]
    tables = np.zeros((len(work), max(used)), dtype=np.int32)
    for row, item, count in zip(tables, work, used, strict=True):
        row[:count] = item.sequence.pages[:count]
    return tables


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
