"""The runner of steps: what its decoder is given, and in which order caches change."""

import random
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

from bessemer.architectures.config import Paged, Recurrent
from bessemer.engine.batch import build
from bessemer.engine.runner import Runner, together
from bessemer.engine.scheduler import Work
from bessemer.engine.sequence import Holdings
from bessemer.engine.sequence import Sequence as EngineSequence
from bessemer.kernels.attention.pages import TAIL_PAGES, Append, Format, Pages, Tail, zeros
from bessemer.kernels.recurrent.runs import States

from .paper_model import prompt, request_for


class Scribe:
    """A decoder that writes down its caches, and gives them back with 1 added, or with tails."""

    def __init__(self, spec: Paged | Recurrent) -> None:
        self.config = SimpleNamespace(windows=(None,), caches=(spec,))
        self.caches: list[Any] = []
        self.starts: list[list[int] | None] = []

    def __call__(
        self, tokens: mx.array, step: Any, caches: Sequence[Any], rows: mx.array
    ) -> tuple[mx.array, list[Any]]:
        (cache,), (layout,) = caches, step.layouts
        self.caches.append(cache)
        self.starts.append(None if layout.tails is None else layout.tails.tolist())
        if isinstance(cache, States):
            return rows, [States(tuple(array + 1 for array in cache.arrays))]
        if layout.tails is None:
            return rows, [cache]
        pages = zeros(TAIL_PAGES * len(tokens), 1, 2, 2, Format.FLOAT32)
        number = len(self.caches)
        pages = replace(pages, keys=pages.keys + number, values=pages.keys.swapaxes(2, 3) + number)
        return rows, [replace(cache, tail=Tail(pages, layout.tails))]


def sequence(number: int, computed: int, length: int, pages: list[int]) -> EngineSequence:
    one = EngineSequence.of(request_for(number, prompt(number, length), 5))
    one.computed, one.pages = computed, Holdings([pages], state_slot=1)
    return one


def test_states_are_copied_in_order_before_the_step_and_handed_on() -> None:
    scribe: Any = Scribe(Recurrent(((2,),)))
    states = mx.array([[0, 0], [10, 10], [20, 20], [30, 30]], mx.float32)
    runner = Runner(scribe, [States((states,))])
    work = [Work(sequence(1, 0, 3, [2]), 3)]
    assert runner(build(work, [(1, 2), (2, 3)])).logits.tolist() == [2]
    assert scribe.caches[0].arrays[0][:, 0].tolist() == [0, 10, 10, 10]
    runner(build(work))
    assert scribe.caches[1].arrays[0][:, 0].tolist() == [1, 11, 11, 11]


def test_tails_go_on_while_the_same_sequences_decode_and_then_go_into_the_pool() -> None:
    scribe: Any = Scribe(Paged(1, 2, 2))
    runner = Runner(scribe, [zeros(8, 1, 2, 2, Format.FLOAT32)], tailed=True)
    for computed in (40, 41):
        runner(build([Work(sequence(1, computed, computed + 1, [5, 3]), 1)]))
    runner(build([Work(sequence(2, 0, 4, [7]), 4)]))
    assert scribe.starts == [[32], [32], None]
    pools: list[Pages] = scribe.caches
    assert pools[0].tail is None and pools[1].tail is not None and pools[2].tail is None
    assert [pool.keys[3, 0, 0, 0].item() for pool in pools] == [0, 0, 2]  # the latest tail's
    assert pools[2].keys[5].max().item() == 0


@pytest.mark.parametrize(
    ("append", "waited"),
    [
        (Append.FUNCTIONAL, [True, True, True, True]),
        (Append.TAIL, [True, True, False, True]),  # tails begin after a flush, and end with one
        (Append.IN_PLACE, [False, False, False, False]),
    ],
)
def test_what_replaces_a_pool_waits_for_the_step_in_flight(
    append: Append, waited: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLX would write a copy of a pool that is being read."""
    waits: list[int] = []
    monkeypatch.setattr(mx, "synchronize", lambda: waits.append(1))
    pools = [zeros(8, 1, 2, 2, Format.FLOAT32, append)]
    scribe: Any = Scribe(Paged(1, 2, 2))
    runner = Runner(scribe, pools, tailed=append is Append.TAIL, ahead=True)
    steps = [(1, 0, 4), (1, 4, 5), (1, 5, 6), (2, 0, 4)]
    for (number, computed, length), expected in zip(steps, waited, strict=True):
        waits.clear()
        page = [4 + number]
        runner(build([Work(sequence(number, computed, length, page), length - computed)]))
        assert bool(waits) == expected


def test_a_state_is_replaced_when_no_step_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr(mx, "synchronize", lambda: waits.append(1))
    scribe: Any = Scribe(Recurrent(((2,),)))
    runner = Runner(scribe, [States((mx.zeros((4, 2)),))], ahead=True)
    for computed in (4, 5):
        runner(build([Work(sequence(1, computed, computed + 1, [2]), 1)]))
    assert len(waits) == 2


class Prepared:
    """A prepared step that gives an answer, or has none for this batch."""

    answer: mx.array | None = mx.array([7])

    def __init__(self, decoder: Any) -> None:
        self.looks = 0

    def look(self, caches: Sequence[Any]) -> None:
        assert len(caches) == 1
        self.looks += 1

    def __call__(self, tokens: mx.array, step: Any, caches: Sequence[Any]) -> mx.array | None:
        return self.answer


def test_a_prepared_step_runs_instead_and_looks_again_where_caches_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bessemer.engine.runner.PreparedStep", Prepared)
    scribe: Any = Scribe(Paged(1, 2, 2))
    runner = Runner(scribe, [zeros(8, 1, 2, 2, Format.FLOAT32)], prepared=True)
    prepared: Any = runner._prepared
    runs: list[tuple[int, int]] = []  # of the decoder and looks, after each step
    for computed, answer in ((0, [7]), (4, [7]), (5, [7]), (6, None), (7, [7]), (8, [7])):
        prepared.answer = None if answer is None else mx.array(answer)
        length = 4 if computed == 0 else computed + 1
        out = runner(build([Work(sequence(1, computed, length, [5]), length - computed)]))
        assert (out.logits.tolist() == [7]) == (computed > 0 and answer is not None)
        runs.append((len(scribe.caches), prepared.looks))
    assert runs == [(1, 0), (1, 1), (1, 1), (2, 1), (2, 2), (2, 2)]


def test_without_tails_layouts_have_none() -> None:
    scribe: Any = Scribe(Paged(1, 2, 2))
    Runner(scribe, [zeros(8, 1, 2, 2, Format.FLOAT32)])(build([Work(sequence(1, 9, 10, [5]), 1)]))
    assert scribe.starts == [None]


def test_copies_that_depend_on_one_another_are_made_in_turn() -> None:
    assert together([(1, 2), (3, 1), (4, 5)]) == [([1, 3, 4], [2, 1, 5])]
    assert together([(1, 2), (2, 3), (4, 3)]) == [([1], [2]), ([2], [3]), ([4], [3])]
    chance = random.Random(1)
    for _ in range(300):
        copies = [(chance.randrange(5), chance.randrange(5)) for _ in range(chance.randrange(9))]
        one, batched = list(range(5)), list(range(5))
        for source, into in copies:
            one[into] = one[source]
        for sources, targets in together(copies):
            read = [batched[source] for source in sources]
            for value, into in zip(read, targets, strict=True):
                batched[into] = value
        assert one == batched
