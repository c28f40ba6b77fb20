"""Responses that are kept: by owner, within limits, over restarts; files that cannot be used."""

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bessemer.http.responses import store as module
from bessemer.http.responses.store import (
    MEMORY,
    ResponseStore,
    StoredResponse,
    StoreError,
    StoreLimits,
)

BODY = b'{"id":"resp_1","status":"in_progress","error":null,"output":[],"tools":[]}'


def response(id: str, owner: str = "key:a", **more: Any) -> StoredResponse:
    about: dict[str, Any] = {"body": BODY, "input": items(f"in-{id}"), "output": items(f"out-{id}")}
    return StoredResponse(id, owner, **about | more)


def items(*names: str) -> list[tuple[str, bytes]]:
    return [(name, json.dumps({"id": name}).encode()) for name in names]


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        self.now += 1
        return self.now


def run(
    work: Callable[[ResponseStore], Awaitable[None]], path: str = MEMORY, **about: Any
) -> ResponseStore:
    settings: dict[str, Any] = {"now": Clock(), **about}
    store = ResponseStore(path, **settings)
    try:
        asyncio.run(work(store))  # type: ignore[arg-type]
    finally:
        store.close()
    return store


async def ids(store: ResponseStore, owner: str, *names: str) -> list[str]:
    """Return those that are there."""
    return [name for name in names if await store.get(owner, name) is not None]


def test_a_response_is_read_changed_and_deleted_by_its_owner_alone() -> None:
    async def work(store: ResponseStore) -> None:
        await store.put(response("1", events=b"x", background=True))
        kept = await store.get("key:a", "1")
        assert kept == StoredResponse("1", "key:a", BODY, background=True, events=b"x")
        assert await store.input("key:a", "1") == [b'{"id": "in-1"}']
        found = await store.items("key:a", ["in-1", "out-1", "no"])
        assert found == dict(items("in-1", "out-1"))

        for other in ("key:b", "", "key:"):
            assert await store.get(other, "1") is None
            assert await store.input(other, "1") == []
            assert await store.history(other, "1") is None
            assert await store.items(other, ["in-1", "out-1"]) == {}
            assert not await store.delete(other, "1")
        await store.put(response("1", body=b"new", output=()))
        kept = await store.get("key:a", "1")
        assert kept is not None and (kept.body, kept.background) == (b"new", False)
        assert await store.items("key:a", ["out-1"]) == {}

        assert await store.delete("key:a", "1") and not await store.delete("key:a", "1")
        assert await store.get("key:a", "1") is None
        assert await store.items("key:a", ["in-1"]) == {}

    run(work)


def test_a_history_is_all_that_was_said_up_to_a_response() -> None:
    async def work(store: ResponseStore) -> None:
        await store.put(response("1"))
        await store.put(response("2", previous="1"))
        await store.put(response("3", previous="2"))
        await store.put(response("3b", previous="2", input=items("p", "q")))
        said = [json.loads(each)["id"] for each in await store.history("key:a", "3b") or []]
        assert said == ["in-1", "out-1", "in-2", "out-2", "p", "q", "out-3b"]
        assert [json.loads(i)["id"] for i in await store.history("key:a", "1") or []] == [
            "in-1",
            "out-1",
        ]
        await store.put(response("4", "key:b", previous="3"))  # another's cannot be gone on from
        assert await store.history("key:b", "4") is None
        await store.delete("key:a", "2")
        assert await store.history("key:a", "3") is None
        assert await store.history("key:a", "no") is None

    run(work)


def test_the_least_recently_used_go_first_and_whoever_has_most_gives_way() -> None:
    each = response("1").size
    assert response("1", events=b"x" * 9).size == each + 9

    async def work(store: ResponseStore) -> None:
        await store.put(response("b", "key:b"))
        for name in ("1", "2", "3"):
            await store.put(response(name))
        await store.history("key:a", "1")  # which is to use it
        await store.put(response("4"))
        assert await ids(store, "key:a", "1", "2", "3", "4") == ["1", "3", "4"]
        assert await ids(store, "key:b", "b") == ["b"]
        await store.put(response("big", body=b"x" * 9 * each))  # more than there is room for
        assert await ids(store, "key:a", "big") == []
        assert await ids(store, "key:b", "b") == ["b"]

    run(work, limits=StoreLimits(size=4 * each + 9))


def test_what_is_old_goes_but_not_what_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    async def work(store: ResponseStore) -> None:
        await store.put(response("1"))
        await store.put(response("2", running=True))
        clock.now += 3600
        await store.put(response("3"))
        assert await ids(store, "key:a", "1", "2", "3") == ["2", "3"]

    run(work, limits=StoreLimits(age=600), now=clock)
    monkeypatch.setattr(module, "MAX_RESPONSES", 3)

    async def count(store: ResponseStore) -> None:
        for name in "12345":
            await store.put(response(name))
        assert await ids(store, "key:a", *"12345") == ["3", "4", "5"]

    run(count)


def test_a_file_outlives_its_server_and_says_of_what_it_left_that_it_failed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "responses.db"

    async def first(store: ResponseStore) -> None:
        await store.put(response("1"))
        await store.put(response("2", running=True, background=True))

    async def second(store: ResponseStore) -> None:
        kept = await store.get("key:a", "1")
        assert kept is not None and kept.body == BODY
        broken = await store.get("key:a", "2")
        assert broken is not None and not broken.running
        body = json.loads(broken.body)
        assert (body["status"], body["error"]["code"]) == ("failed", "server_error")
        assert "server ended" in body["error"]["message"] and body["tools"] == []
        assert len(await store.history("key:a", "2") or []) == 2

    run(first, str(path))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in path.parent.iterdir())
    run(second, str(path))


def test_a_file_is_one_server_s(tmp_path: Path) -> None:
    path = str(tmp_path / "responses.db")
    store = ResponseStore(path)
    try:
        code = f"from bessemer.http.responses.store import ResponseStore; ResponseStore({path!r})"
        other = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
        assert other.returncode and "is in use by another server" in other.stderr
    finally:
        store.close()
    ResponseStore(path).close()


def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("These are no responses at all, but only some text. " * 99)
    old = tmp_path / "old"
    with sqlite3.connect(old) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    for path, reason in (
        (text, "not a database"),
        (old, "another version"),
        (tmp_path, "Is a directory"),
        (text / "below", "Not a directory|File exists"),
    ):
        with pytest.raises(StoreError, match=reason):
            ResponseStore(str(path))
    assert text.read_text().startswith("These are")


def test_a_file_that_takes_no_more_is_complained_of() -> None:
    said: list[str] = []

    async def work(store: ResponseStore) -> None:
        store._database.execute("PRAGMA query_only = ON")
        await store.put(response("1"))

    run(work, complain=said.append)
    assert len(said) == 1 and "could not be kept" in said[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process")
def test_what_was_kept_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "responses.db"
    code = f"""
import asyncio, os, signal
from bessemer.http.responses.store import ResponseStore, StoredResponse
store = ResponseStore({str(path)!r})
asyncio.run(store.put(StoredResponse("1", "", b"{{}}")))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode < 0

    async def work(store: ResponseStore) -> None:
        assert await ids(store, "", "1") == ["1"]

    run(work, str(path), now=time.time)
