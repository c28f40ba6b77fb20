"""Sums that outlive the process that made them."""

import sqlite3
from pathlib import Path

import pytest

from bessemer.http.config import UsageError
from bessemer.http.gateway.spending import MEMORY, SpendingFile


def test_what_was_spent_is_there_after_a_restart(tmp_path: Path) -> None:
    path, said = str(tmp_path / "new" / "usage.sqlite"), list[str]()
    first = SpendingFile(path, said.append)
    first.add("a", "2026-01", 0.5)
    first.add("a", "2026-01", 0.25)
    first.add("a", "2026-02", 1.0)
    first.add("b", "2026-01", 2.0)
    first.close()
    second = SpendingFile(path, said.append)
    sums = {(key, month): second.of(key, month) for key in "ab" for month in ("2026-01", "2026-02")}
    second.close()
    expected = [0.75, 1.0, 2.0, 0.0]
    assert [*sums.values()] == expected and said == []


def test_two_servers_add_to_one_file(tmp_path: Path) -> None:
    path, said = str(tmp_path / "usage.sqlite"), list[str]()
    both = [SpendingFile(path, said.append) for _ in range(2)]
    for each in both:
        each.add("a", "p", 1.0)
    for each in both:
        each.close()
    again = SpendingFile(path, said.append)
    assert again.of("a", "p") == 2.0 and said == []
    again.close()


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    path.write_text("no database" * 100)
    with pytest.raises(UsageError, match=r"usage.sqlite, where spending is kept, cannot be used"):
        SpendingFile(str(path), print)
    with pytest.raises(UsageError, match="cannot be used"):
        SpendingFile("/proc/nowhere/usage.sqlite", print)


def test_what_could_not_be_written_is_told_and_counts(tmp_path: Path) -> None:
    path, said = tmp_path / "usage.sqlite", list[str]()
    spending = SpendingFile(str(path), said.append)
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE spending")
    spending.add("a", "p", 1.0)
    assert spending.of("a", "p") == 1.0
    spending.close()
    assert said == ["what a spent could not be kept: no such table: spending"]


def test_in_memory_nothing_is_kept() -> None:
    spending = SpendingFile(MEMORY, print)
    spending.add("a", "p", 1.0)
    assert spending.of("a", "p") == 1.0
    spending.close()
