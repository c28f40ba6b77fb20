"""Worker processes killed for real, and the server killed above them."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from bessemer.engine.memory import Plan
from bessemer.engine.request import GenerationDefaults, StepReport
from bessemer.engine.settings import Settings
from bessemer.engine.wire import VERSION, Ready, StepResult
from bessemer.http.fleet import StartError, Worker
from bessemer.http.log import Log
from tests.http.running import Server, eventually, guide_copy, serving

LONG = {
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 1900,
    "ignore_eos": True,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving("--model", "guide", "--model", f"second={guide_copy(tmp_path / 'm')}") as running:
        yield running


def worker_of(server: Server, model: str) -> psutil.Process:
    """Return the worker that works when the model is asked."""
    before = {each.pid: sum(each.cpu_times()[:2]) for each in server.workers()}
    list(server.stream("/v1/chat/completions", LONG | {"model": model, "max_tokens": 60}))
    spent = {each: sum(each.cpu_times()[:2]) - before[each.pid] for each in server.workers()}
    return max(spent, key=lambda each: spent[each])


def test_a_killed_worker_takes_only_its_own_streams(server: Server) -> None:
    victim = worker_of(server, "second")
    names = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
    streams = {d: server.stream(path, LONG | {"model": "second"}) for d, path in names.items()}
    survivor = server.stream("/v1/chat/completions", LONG | {"model": "bessemer-guide"})
    for stream in streams.values():
        for _ in range(6):
            next(stream)
    os.kill(victim.pid, signal.SIGSTOP)  # or it would be done before it is killed
    for _ in range(6):
        next(survivor)
    waiting: list[tuple[int, object]] = []
    thread = threading.Thread(
        target=lambda: waiting.append(
            server.ask("POST", "/v1/chat/completions", LONG | {"model": "second"})[:2]
        )
    )
    thread.start()
    time.sleep(0.1)
    os.kill(victim.pid, signal.SIGKILL)
    rest = {dialect: list(stream) for dialect, stream in streams.items()}
    assert rest["openai"][-1][1]["error"]["code"] == "worker_died"
    assert rest["anthropic"][-1][0] == "error"
    assert rest["anthropic"][-1][1]["error"]["type"] == "overloaded_error"
    thread.join()
    assert waiting[0][0] in (200, 503)
    again = LONG | {"model": "second", "max_tokens": 5}
    status, body, _ = server.ask("POST", "/v1/chat/completions", again)
    assert status == 200, body
    assert next(survivor)[1]["choices"], "the other model's stream broke off"
    assert list(survivor)[-1][1] == "[DONE]"
    assert victim.pid not in {each.pid for each in server.workers()}


def test_a_worker_that_dies_again_and_again_comes_back(server: Server) -> None:
    for _ in range(3):
        victim = server.workers()[0]
        victim.kill()
        assert eventually(lambda: server.ask("GET", "/health")[1]["status"] != "ok")
        assert eventually(lambda: server.ask("GET", "/health")[1]["status"] == "ok")
    for model in ("second", "bessemer-guide"):
        body = LONG | {"model": model, "max_tokens": 3}
        assert server.ask("POST", "/v1/chat/completions", body)[0] == 200


def test_workers_do_not_outlive_a_killed_server(tmp_path: Path) -> None:
    with serving() as server:
        stream = server.stream("/v1/chat/completions", LONG | {"model": "bessemer-guide"})
        next(stream)
        workers = server.workers()
        assert workers
        server.process.kill()
        gone, alive = psutil.wait_procs(workers, timeout=10)
        assert len(gone) == len(workers) and not alive


def test_a_graceful_stop_ends_streams_with_a_word_and_workers_too() -> None:
    with serving("--grace", "0.2") as server:
        stream = server.stream("/v1/chat/completions", LONG | {"model": "bessemer-guide"})
        next(stream)
        workers = server.workers()
        server.process.send_signal(signal.SIGTERM)
        assert list(stream)[-1][1]["error"]["code"] == "shutting_down"
        assert server.process.wait(20) == 0
        assert not psutil.wait_procs(workers, timeout=10)[1]


def test_a_short_answer_is_finished_before_the_stop() -> None:
    with serving() as server:
        body = LONG | {"model": "bessemer-guide", "max_tokens": 40}
        stream = server.stream("/v1/chat/completions", body)
        next(stream)
        server.process.send_signal(signal.SIGINT)
        assert list(stream)[-1][1] == "[DONE]"
        assert server.process.wait(20) == 0


def test_slow_readers_do_not_hold_up_others() -> None:
    with serving() as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        body = (
            b'{"model":"bessemer-guide","stream":true,"ignore_eos":true,"max_tokens":1900,'
            b'"n":8,"messages":[{"role":"user","content":"Hi"}]}'
        )
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        slow.sendall(head % len(body) + body)
        request = LONG | {"model": "bessemer-guide", "max_tokens": 5}
        assert server.ask("POST", "/v1/chat/completions", request)[0] == 200


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("kill -KILL $$", "was ended by SIGKILL while it loaded, as the system does where memory"),
        ("kill -ABRT $$", r"was ended by SIGABRT while it loaded$"),
        ("exit 7", r"ended with exit code 7 while it loaded$"),
    ],
)
def test_a_worker_that_dies_at_start_says_of_what(
    last: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{last}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    async def start(log: Log) -> None:
        worker = Worker("m", tmp_path, 10**9, Settings(), log)
        try:
            await worker.start()
        finally:
            await worker.stop()

    with closing(Log()) as log, pytest.raises(StartError, match=words):
        asyncio.run(start(log))


def test_the_last_steps_report_is_the_running_workers() -> None:
    settings: Any = None  # no process is started
    ready = Ready(VERSION, Plan(1, 2, 3, 4, 5, 6), "llama", GenerationDefaults(), 7)
    with closing(Log()) as log:
        worker = Worker("m", Path(), 0, settings, log)
        worker._receive(ready)
        assert worker.report is None
        for report in (StepReport(rows=9, waiting=3), StepReport(rows=1, waiting=2)):
            worker._receive(StepResult([], report))
            assert worker.report == report
        worker._receive(ready)  # of the next process
        assert worker.report is None
