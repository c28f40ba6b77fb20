"""Measures a server's life: start to healthy, idle memory, 64 connects at once, and deaths.

    python -m bessemer.bench.serving.lifecycle [--rounds 5] [--command "vllm-mlx serve M"]

Without --command it is Bessemer with its built-in model, and then also: how soon a worker that is
killed serves again, and how soon workers end when the server is killed.
"""

import argparse
import asyncio
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from rich.console import Console
from rich.table import Table

from bessemer.bench.serving.processes import cost

BESSEMER = f"{shlex.quote(sys.executable)} -P -m bessemer.bench.serving.lifecycle --serve"
CONNECTS = 64
PATIENCE = 120.0  # seconds until a server counts as one that does not start


@contextmanager
def started(command: str, port: int) -> Iterator[tuple[psutil.Process, float]]:
    """The process, and the seconds until it answered; killed at the end."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [*shlex.split(command), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        seconds = until(lambda: answers(port), began)
        yield psutil.Process(process.pid), seconds
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def until(condition: Callable[[], bool], began: float) -> float:
    """Seconds from `began` until the condition holds."""
    while not condition():
        if time.perf_counter() - began > PATIENCE:
            raise SystemExit("the server does not come up")
        time.sleep(0.005)
    return time.perf_counter() - began


async def connects(port: int) -> list[float]:
    """Milliseconds of each of many connections opened at once, to the end of a small answer."""
    request = f"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"

    async def one() -> float:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        head = await reader.readline()
        await reader.read()
        writer.close()
        assert b" 200 " in head, head
        return (time.perf_counter() - began) * 1e3

    return list(await asyncio.gather(*(one() for _ in range(CONNECTS))))


def worker_restart(server: psutil.Process, port: int) -> float:
    """Seconds from a worker's kill until an answer was generated anew."""
    began = time.perf_counter()
    (worker,) = server.children()
    worker.kill()
    worker.wait()
    return until(lambda: generates(port), began)


def generates(port: int) -> bool:
    body = b'{"model": "bessemer-guide", "prompt": "Hello", "max_tokens": 1}'
    try:
        with urlopen(f"http://127.0.0.1:{port}/v1/completions", body, timeout=20) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def workers_end(server: psutil.Process) -> float:
    """Seconds from the server's kill until its workers are gone."""
    workers = server.children()
    began = time.perf_counter()
    server.kill()
    return until(lambda: not any(map(_runs, workers)), began)


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def measure(command: str, port: int, rounds: int, ours: bool) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with started(command, port) as (server, seconds):
            found.setdefault("start to healthy, s", []).append(seconds)
            time.sleep(1)
            found.setdefault("idle PSS, MB", []).append(cost(server).pss / 1e6)
            slowest = max(asyncio.run(connects(port)))
            found.setdefault(f"slowest of {CONNECTS} connects, ms", []).append(slowest)
            if ours:
                restart = worker_restart(server, port)
                found.setdefault("worker killed to serving again, s", []).append(restart)
                end = workers_end(server)
                found.setdefault("server killed to workers gone, s", []).append(end)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures a server's life.")
    parser.add_argument("--command", default=BESSEMER, help="a server; --port is added to it")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        from bessemer.http.cli import main as bessemer

        return bessemer(["serve", "--port", str(arguments.port), "--log-level", "error"])
    ours = arguments.command == BESSEMER
    found = measure(arguments.command, arguments.port, arguments.rounds, ours)
    table = Table("bessemer" if ours else arguments.command.split()[0], "median", "min", "max")
    for name, values in found.items():
        low, high = min(values), max(values)
        table.add_row(name, *(f"{v:.3g}" for v in (statistics.median(values), low, high)))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
