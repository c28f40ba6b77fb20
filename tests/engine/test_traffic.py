"""Random traffic over every kind of cache: who holds what after each step, what each row saw."""

import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq

import numpy as np
import pytest

from bessemer.engine.batch import Batch, Output
from bessemer.engine.cache_sizes import CacheSizes, first_seen, max_held
from bessemer.engine.engine import Engine
from bessemer.engine.prefix_cache import STATES, Node
from bessemer.engine.request import Event
from bessemer.engine.scheduler import Limits
from bessemer.engine.sequence import Sequence
from bessemer.kernels.attention.pages import PAGE

from .paper_model import (
    END,
    PaperModel,
    answers,
    clear,
    greedy,
    prompt,
    request_for,
    rows_of,
    text,
    vector,
    vectors,
)

CONTEXT = 10 * PAGE

# Rooms that a few sequences fill, each with enough for one of CONTEXT tokens.
ROOMS = {
    "full": CacheSizes((None,), (16,)),
    "full and window": CacheSizes((None, 40), (18, 9)),
    "window": CacheSizes((50,), (9,)),
    "windows": CacheSizes((100, 1), (11, 6)),
    "full and states": CacheSizes((None,), (16,), 6),
    "states": CacheSizes((), (), 9),
    "all": CacheSizes((None, 33), (18, 8), 6),
    "no room for another": CacheSizes((None, 20), (11, 6), 2),
}


class Witness(PaperModel):
    """Signs what it writes with all tokens before it, and looks at the signatures it reads."""

    def __init__(self, cache_sizes: CacheSizes) -> None:
        super().__init__(cache_sizes)
        self.tokens_of: Callable[[int], Seq[int]]
        self.signed = [np.zeros(len(pool), np.int64) for pool in self.pools]
        self.signed_states = np.zeros(cache_sizes.states + 1, np.int64)

    def __call__(self, batch: Batch) -> Output:
        for source, into in batch.copies:
            assert source and into
            self.signed_states[into] = self.signed_states[source]
        stop = 0
        for row, (request, count) in enumerate(zip(batch.sequences, rows_of(batch), strict=True)):
            start, stop = stop, stop + count
            self._look(batch, row, batch.positions[start:stop], signatures(self.tokens_of(request)))
        return super().__call__(batch)

    def _look(self, batch: Batch, row: int, positions: np.ndarray, names: np.ndarray) -> None:
        groups = zip(self.signed, batch.tables, self.sizes.windows, strict=True)
        for signed, tables, window in groups:
            into = slot_mapping(tables[row], positions)
            assert (into >= PAGE).all()
            signed[into] = names[positions + 1]
            first = 0 if window is None else max(0, positions[0] + 1 - window)
            seen = np.arange(first, positions[-1] + 1)
            assert (signed[slot_mapping(tables[row], seen)] == names[seen + 1]).all()
        runs = batch.step.runs
        assert (runs is not None) == (self.sizes.states > 0)
        if runs is not None:
            state_slot = runs.state_slots[row]
            assert state_slot and runs.fresh[row] == (positions[0] == 0)
            assert runs.fresh[row] or self.signed_states[state_slot] == names[positions[0]]
            self.signed_states[state_slot] = names[positions[-1] + 1]


def slot_mapping(table: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return table[positions // PAGE] * PAGE + positions % PAGE  # type: ignore[no-any-return]


def signatures(tokens: Seq[int]) -> np.ndarray:
    """Return the signatures of the first 0, 1, 2, ... tokens."""
    names = [0]
    for token in tokens:
        names.append(zlib.crc32(token.to_bytes(4, "little"), names[-1] + 1))
    return np.array(names)


def paper_engine(
    cache_sizes: CacheSizes, ahead: bool = False, **limits: int
) -> tuple[Engine, Witness]:
    model = Witness(cache_sizes)
    door = Engine(model, Limits(context=CONTEXT, **limits), cache_sizes, [END], text, ahead=ahead)
    model.tokens_of = lambda request: tokens_of(door._active[request])
    return door, model


def tokens_of(sequence: Sequence) -> list[int]:
    """Return a sequence's tokens, with the one that the engine has not read yet."""
    unread = sequence.unread
    newest = [] if unread is None else [int(unread.tokens[unread.index])]
    return [*sequence.tokens, *newest]


def nodes(door: Engine) -> Iterator[Node]:
    waiting = [
        child for root in door.pager.tree._roots.values() for child in root.children.values()
    ]
    while waiting:
        node = waiting.pop()
        waiting += node.children.values()
        yield node


def check(door: Engine) -> None:
    """Every page and slot is free, the tree's or one sequence's, and counted right."""
    pager, running, cache_sizes = door.pager, door.scheduler.running, door.pager.sizes
    tree = list(nodes(door))
    for group, window in enumerate(cache_sizes.windows):
        readers = Counter[int]()
        private: list[int] = []
        for sequence in running:
            held = sequence.pages
            first, full, table = held.firsts[group], len(held.path), held.tables[group]
            assert first == first_seen(window, sequence.computed, PAGE)
            assert table[:first] == [0] * first and all(table[first:])
            assert table[first:full] == [node.pages[group] for node in held.path[first:]]
            readers.update(table[first:full])
            private += table[max(full, first) :]
            if window is not None:
                assert len(table) - first <= max_held(window, door.scheduler.limits.longest, PAGE)
        shared = {node.pages[group]: node.users[group] for node in tree if node.pages[group]}
        assert (
            shared == {page: readers[page] for page in shared} and readers.keys() <= shared.keys()
        )
        assert pager.tree._idle[group].keys() == {
            page for page, users in shared.items() if not users
        }
        owners = [node for node in tree if node.pages[group]]
        assert len(owners) == len(shared)
        assert len({*private, *shared}) == len(private) + len(shared)
        assert pager.pools[group].free + len(private) + len(shared) == cache_sizes.pages[group]
    states = [node.state for node in tree if node.state]
    live = [sequence.pages.state_slot for sequence in running] if cache_sizes.states else []
    assert all(live) and len({*live, *states}) == len(live) + len(states)
    assert pager.pools[STATES].free + len(live) + len(states) == cache_sizes.states
    assert set(pager.tree._idle[STATES]) == set(states)
    guests = Counter(id(s.pages.path[-1]) for s in running if s.pages.path)
    for node in tree:
        assert node.guests == guests[id(node)]
        assert any(node.pages) or node.guests or node.children
        assert None not in cache_sizes.windows or node.pages[0]


class Traffic:
    """Requests for prompts that begin alike, now and then taken back."""

    def __init__(self, cache_sizes: CacheSizes, seed: int, ahead: bool) -> None:
        self.chance = random.Random(seed)
        chunk, alone = self.chance.choice([5, 32, 48, 64]), self.chance.choice([0, 64])
        limits = {"batch": 4, "chunk": chunk, "alone": alone}
        self.door, self.model = paper_engine(cache_sizes, ahead, **limits)
        self.number = 0
        self.oracle: dict[int, list[int]] = {}
        self.vectors: dict[int, np.ndarray] = {}
        self.events: list[Event] = []
        self.cache_sizes = cache_sizes

    def prompt(self) -> list[int]:
        """Return part of one of two beginnings, and an ending."""
        beginning = prompt(self.chance.randrange(2), 4 * PAGE)
        start = beginning[: self.chance.choice([3, PAGE, 2 * PAGE, 70, 4 * PAGE])]
        return start + prompt(self.chance.randrange(3), self.chance.choice([0, 1, 9, 31, 64]))

    def submit(self) -> None:
        self.number += 1
        number, tokens, count = self.number, self.prompt(), self.chance.choice([1, 5, 80, 100])
        client = self.chance.choice(["", "a", "a", "b"])
        if self.chance.random() < 0.2:
            self.vectors[number] = vector(tokens, self.cache_sizes)
            self.door.submit(request_for(number, tokens, 0, client=client, embeds=True))
            return
        logprobs = {"prompt_logprobs": 0} if self.chance.random() < 0.1 else {}
        self.oracle[number] = greedy(tokens, count, self.cache_sizes)
        self.door.submit(request_for(number, tokens, count, client=client, **logprobs))

    def cancel(self) -> None:
        number = self.chance.choice([*self.oracle, *self.vectors])
        if number in self.door._active:
            self.door.cancel(number)
            self.oracle.pop(number, None)
            self.vectors.pop(number, None)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            if self.chance.random() < 0.12 and len(self.door._active) < 8:
                self.submit()
            if self.oracle and self.chance.random() < 0.01:
                self.cancel()
            self.step()
        while self.door.busy:
            self.step()

    def step(self) -> None:
        before, unread = len(self.model.steps), self.door._in_flight
        self.events += self.door.step()
        stands = self.door.busy and len(self.model.steps) == before and unread is None
        assert not stands, "nothing goes on"
        check(self.door)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ROOMS)
def test_nothing_is_lost_shared_by_writers_or_read_too_late(
    kind: str, seed: int, ahead: bool
) -> None:
    traffic = Traffic(ROOMS[kind], seed, ahead)
    traffic.run(150)
    out = answers(event for event in traffic.events)
    assert {number: out[number] for number in traffic.oracle} == traffic.oracle
    embedded = vectors(traffic.events)
    for number, oracle in traffic.vectors.items():
        assert np.abs(embedded[number] - oracle).max() < 1e-6
    pager = traffic.door.pager
    clear(pager)
    assert not list(nodes(traffic.door)) and not pager.tree._roots
    assert [pool.free for pool in pager.pools] == [
        *traffic.cache_sizes.pages,
        traffic.cache_sizes.states,
    ]
