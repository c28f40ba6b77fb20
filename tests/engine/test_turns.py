"""Who waits, and whose turn it is."""

from itertools import islice

from bessemer.engine.sequence import Sequence
from bessemer.engine.turns import Turns

from .paper_model import request_for


def line(turns: Turns, *clients: str) -> list[Sequence]:
    out = [Sequence.of(request_for(n, [1], 1, client=c)) for n, c in enumerate(clients)]
    for sequence in out:
        turns.append(sequence)
    return out


def order(turns: Turns, **running: int) -> list[int]:
    return [sequence.request.id for sequence in turns.candidates(running)]


def test_clients_take_turns_and_each_has_its_own_in_order() -> None:
    turns = Turns()
    line(turns, "a", "a", "a", "b", "b", "c")
    assert order(turns) == [0, 3, 5, 1, 4, 2] and len(turns) == 6
    assert order(turns, a=2, b=1) == [5, 3, 0, 4, 1, 2]


def test_who_was_served_comes_after_the_others() -> None:
    turns = Turns()
    first, *_ = line(turns, "a", "a", "b")
    turns.remove(first)
    assert order(turns) == [2, 1] and len(turns) == 2


def test_who_comes_back_is_at_the_head_of_its_clients_queue() -> None:
    turns = Turns()
    first, *_, alone = line(turns, "a", "a", "a", "b")
    for sequence in (first, alone):
        turns.remove(sequence)
        turns.put_back(sequence)
    assert [n for n in order(turns) if n != 3] == [0, 1, 2] and len(turns) == 4


def test_what_begins_while_others_are_looked_at_does_no_harm() -> None:
    turns = Turns()
    line(turns, *"aaabbc")
    seen = []
    for sequence in islice(turns.candidates({}), 5):
        turns.remove(sequence)
        seen.append(sequence.request.id)
    assert seen == [0, 3, 5, 1, 4] and order(turns) == [2]
