"""What a soak makes of outcomes, deaths and the plan that a server prints."""

from collections import Counter

from bessemer.bench.serving.deaths import HANGS, KILLED, Deaths, planned
from bessemer.bench.serving.exchange import Outcome
from bessemer.bench.serving.soak import Ask, Tally, asks, plan
from bessemer.engine.memory import Plan, Windowed

ASK = Ask("/v1/completions", {}, "text")
TOLD = Outcome(503, "", True, "worker_died", "3")


def test_an_answer_is_whole_and_the_same_as_alone_or_an_error_that_says_so() -> None:
    for good in (Outcome(200, "text", True), TOLD, Outcome(left=True)):
        tally = Tally()
        tally.note(ASK, good)
        assert not tally.wrong
    bad = (
        Outcome(),
        Outcome(200, "tex", False),
        Outcome(200, "other", True),
        Outcome(500, "", True, "internal"),
        Outcome(503, "", True, "worker_died", ""),
    )
    for each in bad:
        tally = Tally()
        tally.note(ASK, each)
        assert len(tally.wrong) == 1, each


def test_the_same_seed_makes_the_same_soak() -> None:
    assert asks(3) == asks(3) != asks(4)
    assert planned(50, 10, 3) == planned(50, 10, 3) != planned(50, 10, 4)
    counts = Counter(planned(100, 20, 0))
    assert counts == {KILLED: 100} | dict.fromkeys(HANGS, 5)


def test_retry_after_is_judged_by_when_the_server_generates_again() -> None:
    deaths = Deaths()
    deaths.note(TOLD, 1.0)  # before this death
    deaths.begin()
    deaths.note(TOLD, 10.0)
    deaths.note(Outcome(200, "text", True), 10.5)
    deaths.note(TOLD, 12.0)
    deaths.end("killed, first", 10.0, 14.5)
    assert deaths.late == [1.5, -0.5] and deaths.back == {"killed, first": [4.5]}
    assert dict(deaths.rows()) == {
        "killed, first (1): back after, s": "median 4.50, longest 4.50",
        "Retry-After (2) came true within 1 s": "1, the latest 1.50 s after it",
    }
    deaths.end("killed, later", 20.0, 21.0)
    assert len(deaths.late) == 2  # nobody was told anything since


def test_a_printed_plan_is_added_up() -> None:
    whole = Plan(10**9, 4_040_000, 6_880_000, 65_500, 100, 2048, (Windowed(512, 1000, 50),), 100, 9)
    said = f"warning: no compiler\n  guide (llama), ready in 1.4 s\n    {whole}\nTry it:\n"
    planned = whole.weights + whole.working + whole.pool
    assert abs(plan(said) / planned - 1) < 0.005
    assert plan("no such line") == 0
