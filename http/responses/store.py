"""The responses that are kept, in SQLite: each belongs to the key that asked for it."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...engine.request import Refusal
from ...translate.openai_responses_body import failed_body

VERSION = 1  # of the tables
MEMORY = ":memory:"
MAX_RESPONSES = 10_000
INTERRUPTED = Refusal(  # what it is told as is a body's error, not an answer's status
    500, "interrupted", "The server ended before this response was whole, which is lost."
)

TABLES = """
CREATE TABLE responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, previous TEXT, created REAL NOT NULL,
    used REAL NOT NULL, size INTEGER NOT NULL, background INTEGER NOT NULL,
    running INTEGER NOT NULL, body BLOB NOT NULL,
    events BLOB
) WITHOUT ROWID;
CREATE INDEX by_use ON responses (owner, used);
CREATE TABLE items (
    response TEXT NOT NULL REFERENCES responses ON DELETE CASCADE, place INTEGER NOT NULL,
    id TEXT NOT NULL, input INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (response, place)
) WITHOUT ROWID;
CREATE INDEX by_id ON items (id);
"""
# A response and those that it goes on from, the newest first; `deep` stops at a circle, if any.
CHAIN = """
WITH RECURSIVE chain (id, previous, deep) AS (
    SELECT id, previous, 0 FROM responses WHERE id = ? AND owner = ?
    UNION ALL
    SELECT r.id, r.previous, deep + 1 FROM responses r JOIN chain ON r.id = chain.previous
    WHERE r.owner = ? AND deep < 16384
) SELECT id, previous FROM chain ORDER BY deep
"""

Items = Sequence[tuple[str, bytes]]  # an id each, and the item's JSON
Result = TypeVar("Result")


class StoreError(Exception):
    """The file cannot be used; the message says why, and goes on from its path."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it is kept; `events` are those of its stream, framed, if it can be resumed."""

    id: str
    owner: str
    body: bytes
    input: Items = ()
    output: Items = ()
    previous: str | None = None
    background: bool = False
    running: bool = False
    events: bytes | None = None

    @property
    def size(self) -> int:
        items = sum(len(id) + len(body) for id, body in (*self.input, *self.output))
        return len(self.body) + len(self.events or b"") + items


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """The most bytes and seconds that responses are kept for, all owners together."""

    size: int = 64 * 2**20
    age: float = 30 * 86400.0


class ResponseStore:
    """A store of responses, each of which only its owner can read.

    All of it happens in one thread of its own. Beyond its limits, what goes is of the owner who
    has most, the least recently used first. Raises StoreError for a file that cannot be used.
    """

    def __init__(
        self,
        path: str = MEMORY,
        limits: StoreLimits | None = None,
        now: Callable[[], float] = time.time,
        complain: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._limits, self._now, self._complain = limits or StoreLimits(), now, complain
        self._database = _connected(path)
        self._thread = ThreadPoolExecutor(1, "responses")
        self._interrupt()
        self._forget()

    async def put(self, response: StoredResponse) -> None:
        """Keep a response in place of what it was before; complain if the file does not take it."""
        try:
            await self._run(self._put, response)
        except sqlite3.Error as error:
            self._complain(f"a response could not be kept: {error}")

    async def get(self, owner: str, id: str) -> StoredResponse | None:
        """Return a response without its items."""
        return await self._run(self._get, owner, id)

    async def delete(self, owner: str, id: str) -> bool:
        """Return whether it was there."""
        return await self._run(self._delete, owner, id)

    async def input(self, owner: str, id: str) -> list[bytes]:
        """Return the items that a response was asked with."""
        return await self._run(self._input, owner, id)

    async def history(self, owner: str, id: str) -> list[bytes] | None:
        """Return all items up to a response and its own; None where one is missing."""
        return await self._run(self._history, owner, id)

    async def items(self, owner: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Return those of the items that are there."""
        return await self._run(self._items, owner, ids)

    def close(self) -> None:
        self._thread.shutdown()
        self._database.close()

    async def _run(self, work: Callable[..., Result], *arguments: object) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, *arguments)

    # In the store's thread.

    def _put(self, response: StoredResponse) -> None:
        now, database = self._now(), self._database
        with database:
            old = database.execute(
                "SELECT created FROM responses WHERE id = ?", (response.id,)
            ).fetchone()
            database.execute("DELETE FROM responses WHERE id = ?", (response.id,))
            whose = response.id, response.owner, response.previous
            when = old[0] if old else now, now
            what = response.size, response.background, response.running, response.body
            row = *whose, *when, *what, response.events
            database.execute("INSERT INTO responses VALUES (?,?,?,?,?,?,?,?,?,?)", row)
            numbered = enumerate((*response.input, *response.output))
            own = len(response.input)
            database.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
                ((response.id, at, id, at < own, body) for at, (id, body) in numbered),
            )
        self._forget()

    def _get(self, owner: str, id: str) -> StoredResponse | None:
        row = self._database.execute(
            "SELECT body, previous, background, running, events FROM responses "
            "WHERE id = ? AND owner = ?",
            (id, owner),
        ).fetchone()
        if row is None:
            return None
        body, previous, background, running, events = row
        flags = bool(background), bool(running)
        return StoredResponse(id, owner, body, (), (), previous, *flags, events)

    def _delete(self, owner: str, id: str) -> bool:
        with self._database as database:
            gone = database.execute("DELETE FROM responses WHERE id = ? AND owner = ?", (id, owner))
        return gone.rowcount > 0

    def _input(self, owner: str, id: str) -> list[bytes]:
        rows = self._database.execute(
            "SELECT i.body FROM items i JOIN responses r ON r.id = i.response "
            "WHERE r.id = ? AND r.owner = ? AND i.input ORDER BY i.place",
            (id, owner),
        )
        return [body for (body,) in rows]

    def _history(self, owner: str, id: str) -> list[bytes] | None:
        with self._database as database:
            chain = database.execute(CHAIN, (id, owner, owner)).fetchall()
            if not chain or chain[-1][1] is not None:
                return None
            ids = [(each,) for each, _ in reversed(chain)]
            now = self._now()
            database.executemany(
                "UPDATE responses SET used = ? WHERE id = ?", [(now, *each) for each in ids]
            )
            return [
                body
                for each in ids
                for (body,) in database.execute(
                    "SELECT body FROM items WHERE response = ? ORDER BY place", each
                )
            ]

    def _items(self, owner: str, ids: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for id in ids:
            row = self._database.execute(
                "SELECT i.body FROM items i JOIN responses r ON r.id = i.response "
                "WHERE i.id = ? AND r.owner = ? LIMIT 1",
                (id, owner),
            ).fetchone()
            if row is not None:
                found[id] = row[0]
        return found

    def _forget(self) -> None:
        """Delete what is too old or too much."""
        with self._database as database:
            old = self._now() - self._limits.age
            database.execute("DELETE FROM responses WHERE used < ? AND NOT running", (old,))
            while self._is_full():
                database.execute(
                    "DELETE FROM responses WHERE id = (SELECT id FROM responses WHERE owner = "
                    "(SELECT owner FROM responses GROUP BY owner ORDER BY sum(size) DESC LIMIT 1) "
                    "ORDER BY used LIMIT 1)"
                )

    def _is_full(self) -> bool:
        count, size = self._database.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM responses"
        ).fetchone()
        return bool(count > MAX_RESPONSES or size > self._limits.size)

    def _interrupt(self) -> None:
        """Say of responses that another process did not end that they failed."""
        with self._database as database:
            rows = database.execute("SELECT id, body FROM responses WHERE running").fetchall()
            database.executemany(
                "UPDATE responses SET running = 0, body = ? WHERE id = ?",
                [(failed_body(body, INTERRUPTED), id) for id, body in rows],
            )


def _connected(path: str) -> sqlite3.Connection:
    """Open the file for this process alone. Raises StoreError."""
    if path != MEMORY:
        _make_private(Path(path))
    try:
        database = sqlite3.connect(path, timeout=1, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreError(f"cannot be opened: {error}") from None
    try:
        database.executescript(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
            "PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;"
        )
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise StoreError("is of another version of Bessemer; name another file")
        if version == 0:
            database.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    except (sqlite3.Error, StoreError) as error:
        database.close()
        locked = "locked" in str(error)
        reason = "is in use by another server; name another file" if locked else str(error)
        raise StoreError(reason) from None
    return database


def _make_private(path: Path) -> None:
    """Make the file, which nobody else may read. Raises StoreError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(f"cannot be opened: {error.strerror}") from None
