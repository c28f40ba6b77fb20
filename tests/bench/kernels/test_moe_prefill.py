"""The sorted-against-unsorted table, with two ways of known speed."""

import pytest
from rich.console import Console

from bessemer.bench.kernels import moe_prefill
from bessemer.bench.kernels.moe_prefill import LENGTHS, Work, moe_rows, moe_speeds


class Clock:
    """A clock that work alone moves on."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, seconds: float) -> Work:
        def work() -> None:
            self.now += seconds

        return work


def test_both_ways_are_measured_in_turn() -> None:
    calls: list[str] = []

    def record(tokens: int) -> tuple[Work, Work]:
        return lambda: calls.append("sorted"), lambda: calls.append("unsorted")

    fast, slow = moe_speeds(record, 59, 2)
    assert len(fast) == len(slow) == 2
    assert calls == ["sorted", "unsorted", "unsorted", "sorted", "sorted", "unsorted"]


def test_the_table_has_the_lengths_and_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(moe_prefill, "time", clock)

    def make(tokens: int) -> tuple[Work, Work]:
        return clock.work(0.002), clock.work(0.008)

    table = moe_rows(make, LENGTHS[:2], rounds=3, tell=lambda _: None)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    rows = [line.split("│") for line in captured.get().splitlines() if "│" in line]
    assert [row[1].strip() for row in rows] == ["59", "481"]
    assert [float(row[4].split()[0]) for row in rows] == [4, 4], rows
