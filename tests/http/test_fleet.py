"""Worker processes killed for real, and the server killed above them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from bessemer.bench.serving.deaths import DEAF, hooked
from bessemer.engine.settings import Settings
from bessemer.http.fleet import StartError, Worker
from bessemer.http.log import Log
from tests.http.running import COMMAND, Server, eventually, guide_copy, serving

WATCHDOG = "4"  # seconds; a worker says something each second, if a busy machine lets it
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
    assert answered(server, again)
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
        gone, alive = psutil.wait_procs(workers, timeout=60)
        assert len(gone) == len(workers) and not alive


def test_a_graceful_stop_ends_streams_with_a_word_and_workers_too() -> None:
    with serving("--grace", "0.2") as server:
        stream = server.stream("/v1/chat/completions", LONG | {"model": "bessemer-guide"})
        next(stream)
        workers = server.workers()
        server.process.send_signal(signal.SIGTERM)
        assert list(stream)[-1][1]["error"]["code"] == "shutting_down"
        assert server.process.wait(60) == 0
        assert not psutil.wait_procs(workers, timeout=60)[1]


def test_a_short_answer_is_finished_before_the_stop() -> None:
    with serving() as server:
        body = LONG | {"model": "bessemer-guide", "max_tokens": 40}
        stream = server.stream("/v1/chat/completions", body)
        next(stream)
        server.process.send_signal(signal.SIGINT)
        assert list(stream)[-1][1] == "[DONE]"
        assert server.process.wait(60) == 0


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
        ("kill -KILL $$", "was ended by SIGKILL, as the system does where memory is short$"),
        ("kill -ABRT $$", "was ended by SIGABRT$"),
        ("exit 7", "ended with exit code 7$"),
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


def answered(server: Server, body: dict[str, Any]) -> bool:
    """Return whether a model that is being restarted answers in the end."""
    return eventually(lambda: server.ask("POST", "/v1/chat/completions", body)[0] == 200)


def health(server: Server) -> dict[str, Any]:
    answer: dict[str, Any] = server.ask("GET", "/health")[1]
    return answer


def test_a_worker_that_hangs_is_noticed_ended_and_replaced() -> None:
    with serving("--watchdog", WATCHDOG) as server:
        stream = server.stream("/v1/chat/completions", LONG | {"model": "bessemer-guide"})
        next(stream)
        (victim,) = server.workers()
        victim.suspend()
        assert eventually(lambda: health(server)["models"] == {"bessemer-guide": "not responding"})
        status, body, headers = server.ask("GET", "/health")
        if status == 503:  # it may have been ended by now
            assert int(headers["retry-after"]) >= 1 and body["status"] == "down"
        assert list(stream)[-1][1]["error"]["code"] == "worker_died"
        body = LONG | {"model": "bessemer-guide", "max_tokens": 3}
        assert answered(server, body)
        assert not victim.is_running() and health(server)["status"] == "ok"


def test_a_worker_that_holds_the_interpreters_lock_is_replaced_too() -> None:
    with hooked() as stuck, serving("--watchdog", "2", **stuck) as server:
        stream = server.stream("/v1/chat/completions", LONG | {"model": "bessemer-guide"})
        next(stream)
        (victim,) = server.workers()
        victim.send_signal(DEAF)  # a call of C that never returns, as a kernel's may
        assert list(stream)[-1][1]["error"]["code"] == "worker_died"
        body = LONG | {"model": "bessemer-guide", "max_tokens": 3}
        assert eventually(lambda: server.ask("POST", "/v1/chat/completions", body)[0] == 200)
        assert not victim.is_running()


def test_a_worker_that_hangs_while_it_loads_is_replaced_too() -> None:
    with serving("--watchdog", WATCHDOG) as server:
        (victim,) = server.workers()
        victim.kill()
        assert eventually(lambda: {each.pid for each in server.workers()} - {victim.pid})
        (loading,) = server.workers()
        assert eventually(lambda: heard(health(server)))
        loading.suspend()  # it may be ready by now, and must be replaced then too
        assert eventually(lambda: loading.pid not in {each.pid for each in server.workers()})
        assert eventually(lambda: health(server)["status"] == "ok")


def heard(health: dict[str, Any]) -> bool:
    """Return whether the only worker has given a sign of life since it was started."""
    return health["status"] == "ok" or health.get("loading", STARTING) != STARTING


STARTING = {"bessemer-guide": "starting"}


def test_a_server_that_was_suspended_ends_no_worker() -> None:
    with serving("--watchdog", WATCHDOG) as server:
        before = [each.pid for each in server.workers()]
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(float(WATCHDOG) + 1)
        server.process.send_signal(signal.SIGCONT)
        for _ in range(20):
            assert health(server)["status"] == "ok"
            time.sleep(0.02)
        assert [each.pid for each in server.workers()] == before


def test_the_port_answers_while_models_load_and_a_signal_ends_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*COMMAND, "serve", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server = Server(process, port, "")
    try:
        assert eventually(lambda: answers(port) and server.workers())
        (worker,) = server.workers()
        worker.suspend()  # or it would be ready before it is asked
        status, body, headers = server.ask("GET", "/health")
        assert (status, body["status"]) == (503, "loading") and int(headers["retry-after"]) >= 1
        assert body["models"] == {"bessemer-guide": "loading"} and body["loading"]
        for path in ("chat/completions", "messages", "messages/count_tokens"):
            status, body, headers = server.ask(
                "POST", f"/v1/{path}", LONG | {"model": "bessemer-guide"}
            )
            assert (status, int(headers["retry-after"]) >= 1) == (503, True), body
            assert "is being loaded" in body["error"]["message"]
        texts = {"model": "bessemer-guide", "input": "a", "query": "q", "documents": ["d"]}
        for path in ("embeddings", "rerank"):
            assert server.ask("POST", f"/v1/{path}", texts)[0] == 503
        models = server.ask("GET", "/v1/models")[1]["data"]
        assert [(each["id"], each["loaded"]) for each in models] == [("bessemer-guide", False)]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
        assert eventually(lambda: not worker.is_running())
    finally:
        if process.poll() is None:
            for each in (*server.workers(), process):
                each.kill()
        process.communicate()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_a_timeout_is_a_silence_streamed_or_not() -> None:
    with serving("--timeout", "1", "--max-batch", "1", "--heartbeat", "0.1") as server:
        body = LONG | {"model": "bessemer-guide"}
        with ThreadPoolExecutor(2) as pool:  # the second waits for the whole of the first
            ask = lambda _: server.ask("POST", "/v1/chat/completions", body)  # noqa: E731
            replies = list(pool.map(ask, range(2)))
        assert [status for status, _, _ in replies] == [200, 200]
        stream = server.stream("/v1/chat/completions", body)
        next(stream)
        (worker,) = server.workers()
        worker.suspend()
        try:
            status, answer, _ = server.ask("POST", "/v1/chat/completions", body)
            assert (status, answer["error"]["code"]) == (504, "timeout")
            assert list(stream)[-1][1]["error"]["code"] == "timeout"
        finally:
            worker.resume()
        assert server.ask("POST", "/v1/chat/completions", body | {"max_tokens": 3})[0] == 200


def test_workers_inherit_no_secrets() -> None:
    secrets = {
        **dict.fromkeys(("HF_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_X"), "hush"),
        "BESSEMER_API_KEY": "hush",
        "MLX_METAL_FAST_SYNCH": "1",
        "LC_ALL": "C.UTF-8",
    }
    with serving(**secrets) as server:
        (worker,) = server.workers()
        inherited = worker.environ()
        assert "hush" not in inherited.values()
        assert (inherited["MLX_METAL_FAST_SYNCH"], inherited["LC_ALL"]) == ("1", "C.UTF-8")
        assert {"PATH", "OMP_NUM_THREADS"} <= {*inherited}
        assert inherited["MALLOC_ARENA_MAX"] == os.environ.get("MALLOC_ARENA_MAX", "2")
