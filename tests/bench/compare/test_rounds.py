"""Rounds: order, warm-up, budgets, failures and floors, with contestants that cost nothing."""

from dataclasses import dataclass, field

from bessemer.bench.compare.contest import About, Case, CaseFailed, Measure
from bessemer.bench.compare.floor import Floors
from bessemer.bench.compare.rounds import Terms, run

CASES = [Case("decode", "short", 64, 8), Case("decode", "long", 64, 512)]


@dataclass
class Fake:
    label: str
    calls: list[tuple[str, str, int, int]]
    speed: float = 1000.0
    fails: str = ""
    closed: bool = field(default=False)

    def start(self) -> About:
        if self.fails == "start":
            raise CaseFailed("no such model")
        return About(self.label, "1", {})

    def measure(self, case: Case, seed: int) -> Measure:
        if self.fails == case.name:
            raise CaseFailed("too long")
        self.calls.append((self.label, case.name, case.tokens, seed))
        return Measure({"speed": self.speed}, ("as told",))

    def close(self) -> None:
        self.closed = True


def quiet(text: str, done: int, total: int) -> None:
    assert 0 <= done <= total and text


def test_rounds_are_interleaved_and_the_first_is_not_counted() -> None:
    calls: list[tuple[str, str, int, int]] = []
    fakes = [Fake(label, calls) for label in "abc"]
    floors = iter(Floors(n, n, n, n) for n in range(100))
    results = run(fakes, CASES[:1], Terms(2, 0, 7, lambda: next(floors)), quiet)
    assert [call[0] for call in calls] == [*"abc", *"bca", *"cab"]
    assert len({call[3] for call in calls}) == 3  # one prompt a round, the same for all
    assert results.samples("short", "b", "speed") == [1000.0, 1000.0]
    assert len(results.floors) == 2 and all(fake.closed for fake in fakes)
    assert results.notes["short", "a"] == ["as told"]


def test_no_prompt_comes_twice() -> None:
    calls: list[tuple[str, str, int, int]] = []
    run([Fake("a", calls)], CASES, Terms(3, 0, 1), quiet)
    assert len({call[3] for call in calls}) == len(calls) == 8


def test_a_slow_one_gets_fewer_tokens_and_it_is_said() -> None:
    calls: list[tuple[str, str, int, int]] = []
    slow, fast = Fake("slow", calls, speed=2.0), Fake("fast", calls)
    results = run([slow, fast], CASES[:1], Terms(1, 10, 1), quiet)
    assert [call[2] for call in calls if call[0] == "slow"] == [4, 20, 20]
    assert [call[2] for call in calls if call[0] == "fast"] == [4, 64, 64]
    assert results.notes["short", "slow"][0] == "cut to 20 of 64 tokens by --budget"
    assert results.notes["short", "fast"] == ["as told"]


def test_who_fails_leaves_only_that_case() -> None:
    calls: list[tuple[str, str, int, int]] = []
    fakes = [Fake("a", calls), Fake("b", calls, fails="long"), Fake("c", calls, fails="start")]
    results = run(fakes, CASES, Terms(2, 0, 1), quiet)
    assert results.troubles == {("c", ""): "no such model", ("b", "long"): "too long"}
    assert results.samples("short", "b", "speed") == [1000.0] * 2
    assert results.samples("long", "b", "speed") == []
    assert [about.label for about in results.abouts] == ["a", "b"]
