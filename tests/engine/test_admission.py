"""Counting sequences in and out: what one client may have, and what it leaves to others."""

import random
from collections import Counter

import pytest

from bessemer.engine.admission import Admission
from bessemer.engine.request import Refusal


def status(admission: Admission, client: str, count: int) -> int:
    """Return how it went: 0 where the sequences were counted in."""
    try:
        admission.enter(client, count)
    except Refusal as refusal:
        return refusal.status
    return 0


def test_all_that_ever_fits_works_on_an_idle_server_and_more_is_refused_for_good() -> None:
    for count, outcome in ((1, 0), (257, 0), (320, 0), (321, 400), (65_536, 400)):
        assert status(Admission(64, 256), "a", count) == outcome
    with pytest.raises(Refusal, match=r"for 321 sequences.* takes 320 at a time"):
        Admission(64, 256).enter("a", 321)


def test_without_a_queue_nothing_waits() -> None:
    admission = Admission(4, 0)
    assert [status(admission, client, n) for client, n in (("a", 3), ("b", 2), ("b", 1))] == [
        0,
        503,
        0,
    ]
    assert status(admission, "c", 1) == 503 and status(admission, "c", 5) == 400
    admission.leave("a")
    assert status(admission, "c", 1) == 0


def test_one_client_cannot_fill_the_queue_against_others() -> None:
    admission = Admission(64, 256)
    assert [status(admission, "heavy", 64) for _ in range(6)] == [0, 0, 0, 0, 0, 503]
    assert [status(admission, f"light {i}", 1) for i in range(100)] == [0] * 100


def test_several_that_flood_leave_room_too() -> None:
    admission = Admission(64, 256)
    for _ in range(400):
        for client in "abc":
            status(admission, client, 1)
    assert status(admission, "light", 8) == 0


def test_a_place_is_given_back_once_as_its_sequences_end_and_at_the_end() -> None:
    admission = Admission(2, 0)
    with pytest.raises(ZeroDivisionError), admission.admitted("a", 2) as place:
        place.leave()
        place.leave(0)
        assert status(admission, "b", 1) == 0
        assert status(admission, "b", 1) == 503
        raise ZeroDivisionError
    assert status(admission, "b", 1) == 0
    place.leave(5)
    place.close()
    assert status(admission, "b", 1) == 503


def test_the_time_to_come_again_is_that_of_the_latest_ends() -> None:
    now = [0.0]
    admission = Admission(8, 0, lambda: now[0])

    def seconds() -> int | None:
        with pytest.raises(Refusal) as caught:
            admission.enter("b", 4)
        return caught.value.retry_after

    admission.enter("a", 8)
    assert seconds() == 1  # nothing is known yet
    for _ in range(4):
        now[0] += 5
        admission.leave("a")
        admission.enter("a")
    assert seconds() == 15  # four ends in 15 seconds, and four are needed
    now[0] += 10_000
    assert seconds() == 60


@pytest.mark.parametrize(("batch", "queue", "held", "more"), [(4, 8, 8, 8), (4, 0, 3, 2)])
def test_as_many_ends_as_are_waited_for_let_a_client_in(
    batch: int, queue: int, held: int, more: int
) -> None:
    admission = Admission(batch, queue)
    admission.enter("a", held)
    waited = admission._excess("a", more)
    for _ in range(waited):
        assert status(admission, "a", more) == 503
        admission.leave("a")
    assert waited and status(admission, "a", more) == 0


def test_what_is_counted_is_what_is_there_and_a_newcomer_is_heard() -> None:
    chance = random.Random(3)
    for _ in range(50):
        batch, queue = chance.randint(1, 8), chance.randint(0, 20)
        admission, counts = Admission(batch, queue), Counter[str]()
        for _ in range(300):
            client = chance.choice("abcd")
            if chance.random() < 0.4 and counts[client]:
                gone = chance.randint(1, counts[client])
                admission.leave(client, gone)
                counts[client] -= gone
            elif not status(admission, client, count := chance.randint(1, 6)):
                counts[client] += count
            assert counts.total() <= batch + 2 * queue
            assert max(counts.values(), default=0) <= batch + queue
        for client, count in counts.items():
            admission.leave(client, count)
        assert status(admission, "a", batch + queue) == 0


def test_texts_count_less_than_sequences_and_never_more_than_a_batch() -> None:
    admission = Admission(4, 0)
    assert [admission.sequences(texts) for texts in (1, 32, 33, 2048)] == [1, 1, 2, 4]
