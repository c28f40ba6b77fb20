"""The scheduler's arithmetic; what it does in a running engine is in test_engine."""

import random

import pytest

from bessemer.engine.request import Refusal, Started, Token
from bessemer.engine.scheduler import share, share_by_client
from bessemer.kernels.attention.pages import PAGE

from .paper_model import answers, engine, greedy, prompt, request_for


@pytest.mark.parametrize(
    ("budget", "pending", "oracle"),
    [
        (256, [], []),
        (256, [1000], [256]),
        (256, [10], [10]),
        (256, [1000, 20], [236, 20]),
        (256, [1000, 1000], [256, 0]),
        (256, [1000, 900, 30], [226, 0, 30]),
        (10, [3, 100, 4], [3, 3, 4]),
        (1, [5, 1], [1, 0]),
    ],
)
def test_half_for_the_oldest_the_rest_shortest_first(
    budget: int, pending: list[int], oracle: list[int]
) -> None:
    out = share(budget, pending)
    assert sum(out) == min(budget, sum(pending))
    assert out == oracle
    assert not pending or out[0] >= min(pending[0], -(-budget // 2))


def test_no_budget_is_left_while_somebody_waits() -> None:
    chance = random.Random(1)
    for _ in range(500):
        pending = [chance.randint(1, 400) for _ in range(chance.randint(1, 12))]
        budget = chance.randint(1, 600)
        counts = share(budget, pending)
        assert sum(counts) == min(budget, sum(pending))
        assert all(0 <= c <= p for c, p in zip(counts, pending, strict=True))


def test_clients_share_a_step_alike_and_leave_what_they_do_not_need() -> None:
    assert share_by_client(256, [30_000, 300, 20], "abb") == [128, 108, 20]
    assert share_by_client(256, [30_000, 10], "ab") == [246, 10]
    assert share_by_client(256, [100] * 5, "aaaab") == [100, 56, 0, 0, 100]
    assert share_by_client(256, [30_000, 20, 900], "aaa") == share(256, [30_000, 20, 900])
    assert share_by_client(1, [5, 3], "ab") == [0, 1] and share_by_client(9, [], "") == []


def test_a_newcomer_gets_a_place_at_once_and_computes_alone() -> None:
    door, model = engine(batch=8, chunk=64)
    for number in range(20):
        door.submit(request_for(number, prompt(number, 20), 60, client="heavy"))
    for _ in range(12):
        door.step()
    assert len(door.scheduler.running) == 8
    door.submit(request_for(99, prompt(99, 20), 30, client="light"))
    events = door.step()
    assert [type(event) for event in events] == [Started, Token]
    assert {event.request for event in events} == {99} and model.steps[-1] == 20
    assert {event.request for event in door.step()} > {99}
    assert door.scheduler.preemptions == 1
    oracle = {n: greedy(prompt(n, 20), 60) for n in range(20)} | {99: greedy(prompt(99, 20), 30)}
    out = answers(door.run())
    assert all(oracle[n][-len(out[n]) :] == out[n] for n in out)


def test_newcomers_never_hold_up_the_others_for_two_steps() -> None:
    door, _ = engine(batch=8, chunk=64)
    for number in range(7):
        door.submit(request_for(number, prompt(number, 5), 80, client="heavy"))
    for _ in range(10):
        door.step()
    gaps = 0
    for number in range(100, 130):
        door.submit(request_for(number, prompt(number, 20), 1, client="light"))
        gaps = 0 if any(event.request < 100 for event in door.step()) else gaps + 1
        assert gaps < 2


def test_equal_shares_stay_and_a_heavy_client_gives_up_no_more_than_that() -> None:
    door, _ = engine(batch=8, chunk=64)
    for number in range(40):
        door.submit(request_for(number, prompt(number, 9), 90, client="heavy"))
    for _ in range(5):
        door.step()
    for number in range(100, 120):
        door.submit(request_for(number, prompt(number, 9), 90, client="other"))
    for _ in range(30):
        door.step()
    running = [sequence.request.client for sequence in door.scheduler.running]
    assert running.count("heavy") == running.count("other") == 4
    assert door.scheduler.preemptions == 4


def test_a_step_reads_more_of_a_prompt_while_nobody_decodes() -> None:
    door, model = engine(batch=4, chunk=64, alone=128, pages=200, context=100 * PAGE)
    door.submit(request_for(0, prompt(0, 300), 20))
    for _ in range(4):
        door.step()
    assert model.steps == [128, 128, 44, 1]
    door.submit(request_for(1, prompt(1, 150), 1))
    for _ in range(3):
        door.step()
    assert model.steps[4:] == [1 + 64, 1 + 64, 1 + 22]


def test_more_clients_than_places_preempt_nobody_for_a_place() -> None:
    door, _ = engine(batch=4)
    for number in range(12):
        door.submit(request_for(number, prompt(number, 9), 9, client=str(number)))
    assert len(answers(door.run())) == 12 and door.scheduler.preemptions == 0


def test_who_is_preempted_goes_on_before_those_that_came_later() -> None:
    door, _ = engine(pages=6, batch=2)
    for number in range(4):
        door.submit(request_for(number, prompt(number, PAGE), 3 * PAGE))
    while door.busy and not door.scheduler.preemptions:
        door.step()
    assert [sequence.request.id for sequence in door.scheduler.running] == [0]
    assert [sequence.request.id for sequence in door.scheduler.waiting.candidates({})] == [1, 2, 3]
    ends = [event.request for event in door.run() if event.over]
    assert ends == [0, 1, 2, 3]


def test_a_prompt_needs_room_for_one_token_unless_none_is_wanted() -> None:
    door, _ = engine(pages=4)
    door.submit(request_for(0, prompt(0, 4 * PAGE - 1), 50))
    door.submit(request_for(1, prompt(1, 4 * PAGE), 0))
    for length, count, least in ((4 * PAGE, 1, 0), (4 * PAGE - 9, 50, 10)):
        with pytest.raises(Refusal, match=str(4 * PAGE)):
            door.submit(request_for(2, prompt(2, length), count, min_tokens=least))


def test_who_waits_for_a_shared_prefix_holds_up_nobody_else() -> None:
    door, _ = engine(batch=4, chunk=PAGE, pages=200, context=100 * PAGE)
    long = prompt(1, 60 * PAGE)
    for number in range(2):
        door.submit(request_for(number, [*long, number], 2))
    door.step()
    door.submit(request_for(2, prompt(2, 5), 2))
    events = [event for _ in range(9) for event in door.step()]
    assert {event.request for event in events if event.over} == {2}


def test_what_waits_for_a_shared_prefix_is_not_matched_again_at_each_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, _ = engine(batch=4, chunk=PAGE, pages=200, context=100 * PAGE)
    long = prompt(1, 60 * PAGE)
    for number in range(30):
        door.submit(request_for(number, [*long, number], 2))
    matched: list[int] = []
    match = door.pager.match
    monkeypatch.setattr(door.pager, "match", lambda s: matched.append(s.request.id) or match(s))
    for _ in range(50):
        door.step()
    assert len(matched) == 30 and len(door.scheduler.running) == 1
    assert len(answers(door.run())) == 30


def test_who_is_done_makes_room_in_the_queue() -> None:
    door, _ = engine(batch=2, queue=1)
    for first in (0, 10, 20):
        for number in range(first, first + 3):
            door.submit(request_for(number, prompt(number, 9), 3))
        assert len(answers(door.run())) == 3


def test_a_newcomer_computes_alone_whether_or_not_many_steps_have_passed_without_one() -> None:
    for steps in (10, 11):
        door, model = engine(batch=8, chunk=64)
        for number in range(7):
            door.submit(request_for(number, prompt(number, 5), 80, client="heavy"))
        for _ in range(steps):
            door.step()
        door.submit(request_for(99, prompt(99, 20), 1, client="light"))
        assert {event.request for event in door.step()} == {99} and model.steps[-1] == 20
