"""What keys have spent, in a small SQLite file that outlives the server."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..config import UsageError

MEMORY = ":memory:"
TABLE = """
CREATE TABLE IF NOT EXISTS spending (
    key TEXT NOT NULL, period TEXT NOT NULL, cost REAL NOT NULL, PRIMARY KEY (key, period)
) WITHOUT ROWID
"""
ADD = """
INSERT INTO spending VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET cost = cost + excluded.cost
"""


class SpendingFile:
    """Sums by key and period, read once and written beside the loop, in order.

    `complain` is told what could not be written; it still counts until the server ends.
    """

    def __init__(self, path: str, complain: Callable[[str], object]) -> None:
        """Open a file, or MEMORY. Raises UsageError where it cannot be used."""
        self._complain = complain
        self._writer = ThreadPoolExecutor(1)
        try:
            if path != MEMORY:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(TABLE)
            rows = self._database.execute("SELECT key, period, cost FROM spending").fetchall()
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"{path}, where spending is kept, cannot be used: {error}") from None
        self._sums: dict[tuple[str, str], float] = {(key, period): c for key, period, c in rows}

    def of(self, key: str, period: str) -> float:
        return self._sums.get((key, period), 0.0)

    def add(self, key: str, period: str, cost: float) -> None:
        self._sums[key, period] = self.of(key, period) + cost
        self._writer.submit(self._write, key, period, cost)

    def close(self) -> None:
        self._writer.shutdown()
        self._database.close()

    def _write(self, key: str, period: str, cost: float) -> None:
        try:
            with self._database:
                self._database.execute(ADD, (key, period, cost))
        except sqlite3.Error as error:
            self._complain(f"what {key} spent could not be kept: {error}")
