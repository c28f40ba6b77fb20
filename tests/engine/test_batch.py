"""The arrays of a step: decoding sequences first, pages padded, every row with its owner."""

from array import array

import mlx.core as mx
import numpy as np

from bessemer.engine.batch import build
from bessemer.engine.scheduler import Work
from bessemer.engine.sequence import Holdings, Sequence, Unread
from bessemer.kernels.attention.pages import PAGE, Prefill

from .paper_model import prompt, request_for


def sequence(number: int, length: int, computed: int, pages: list[int]) -> Sequence:
    state = Sequence.of(request_for(number, prompt(number, length), 5))
    assert state.tokens == array("I", prompt(number, length))
    state.computed, state.pages = computed, Holdings([pages])
    return state


def test_rows_lie_where_their_sequence_says() -> None:
    decoding = sequence(1, 3, 2, [9])
    prompts = [sequence(2, 80, 30, [4, 7, 2]), sequence(3, 40, 0, [5])]
    batch = build([Work(decoding, 1), Work(prompts[0], 4), Work(prompts[1], 2)])
    (layout,) = batch.step.layouts
    positions = [2, 30, 31, 32, 33, 0, 1]
    pages = [9, 4, 4, 7, 7, 5, 5]
    assert layout.positions.tolist() == positions
    assert layout.owners.tolist() == [0, 1, 1, 1, 1, 2, 2]
    assert layout.slot_mapping.tolist() == [
        page * PAGE + p % PAGE for page, p in zip(pages, positions, strict=True)
    ]
    assert layout.tables.tolist() == [[9, 0], [4, 7], [5, 0]]
    assert (layout.decodes, layout.prefills) == (1, (Prefill(1, 5, 34), Prefill(5, 7, 2)))
    oracle = [*decoding.tokens[2:3], *prompts[0].tokens[30:34], *prompts[1].tokens[:2]]
    assert np.array(batch.tokens).tolist() == oracle
    assert batch.rows.tolist() == [0]
    arrays = (batch.tokens, layout.positions, layout.owners, layout.slot_mapping, layout.tables)
    assert {str(a.dtype) for a in arrays} == {"mlx.core.int32"}


def test_groups_have_tables_of_their_own_and_sequences_state_slots_and_lengths() -> None:
    decoding, starting = sequence(1, 41, 40, [9, 3]), sequence(2, 40, 0, [5])
    decoding.pages.tables.append([0, 8])  # the window is past its first page
    starting.pages.tables.append([2])
    decoding.pages.state_slot, starting.pages.state_slot = 4, 1
    decoding.max_len, starting.max_len = 46, 100
    batch = build([Work(decoding, 1), Work(starting, 3)], [(3, 4)])
    full, window = batch.step.layouts
    assert full.tables.tolist() == [[9, 3], [5, 0]] and window.tables.tolist() == [[0, 8], [2, 0]]
    assert window.slot_mapping.tolist() == [8 * PAGE + 8, *(2 * PAGE + i for i in range(3))]
    assert batch.step.positions.tolist() == full.positions.tolist() == [40, 0, 1, 2]
    assert (window.decodes, window.prefills) == (full.decodes, full.prefills)
    runs = batch.step.runs
    assert runs is not None and batch.step.max_lens is not None
    assert (runs.starts.tolist(), runs.state_slots.tolist()) == ([0, 1, 4], [4, 1])
    assert runs.fresh.tolist() == [0, 1]
    assert batch.step.max_lens.tolist() == [46, 100, 100, 100]
    assert batch.copies == ((3, 4),)


def test_without_states_and_ropes_that_vary_there_is_nothing_of_them() -> None:
    step = build([Work(sequence(1, 3, 2, [9]), 1)]).step
    assert step.runs is None and step.max_lens is None


def test_tokens_that_nobody_has_read_come_from_where_they_were_drawn() -> None:
    drawn = mx.array([50, 51, 52], mx.int32)

    def tokens(*indices: int | None) -> list[int]:
        """Build a step of sequences with these tokens unread, and one of the prompt's otherwise."""
        work = []
        for number, index in enumerate(indices, 1):
            each = sequence(number, 3, 2 if index is None else 3, [number])
            each.unread = None if index is None else Unread(drawn, index)
            work.append(Work(each, 1))
        return np.array(build(work).tokens).tolist()

    known = prompt(2, 3)[2]
    assert tokens(0, 1, 2) == [50, 51, 52]
    assert tokens(0, None, 1, 2) == [50, known, 51, 52]
    assert tokens(0, None, 2) == [50, known, 52] and tokens(2, 0) == [52, 50]
