"""The arrays of a step: decoding sequences first, pages padded, every row with its owner."""

from array import array

import numpy as np

from bessemer.engine.batch import build
from bessemer.engine.scheduler import Work
from bessemer.engine.sequence import Sequence
from bessemer.kernels.pages import PAGE, Prefill

from .paper_model import ask, prompt


def sequence(number: int, length: int, computed: int, pages: list[int]) -> Sequence:
    state = Sequence.of(ask(number, prompt(number, length), 5))
    assert state.tokens == array("I", prompt(number, length))
    state.computed, state.pages = computed, pages
    return state


def test_rows_lie_where_their_sequence_says() -> None:
    decoding = sequence(1, 3, 2, [9])
    prompts = [sequence(2, 80, 30, [4, 7, 2]), sequence(3, 40, 0, [5])]
    batch = build([Work(decoding, 1), Work(prompts[0], 4), Work(prompts[1], 2)])
    layout = batch.layout
    positions = [2, 30, 31, 32, 33, 0, 1]
    pages = [9, 4, 4, 7, 7, 5, 5]
    assert layout.positions.tolist() == positions
    assert layout.owners.tolist() == [0, 1, 1, 1, 1, 2, 2]
    assert layout.slots.tolist() == [
        page * PAGE + p % PAGE for page, p in zip(pages, positions, strict=True)
    ]
    assert layout.tables.tolist() == [[9, 0], [4, 7], [5, 0]]
    assert (layout.decodes, layout.prefills) == (1, (Prefill(1, 5, 34), Prefill(5, 7, 2)))
    expected = [*decoding.tokens[2:3], *prompts[0].tokens[30:34], *prompts[1].tokens[:2]]
    assert np.array(batch.tokens).tolist() == expected
    assert batch.rows.tolist() == [0]
    arrays = (batch.tokens, layout.positions, layout.owners, layout.slots, layout.tables)
    assert {str(a.dtype) for a in arrays} == {"mlx.core.int32"}
