"""Measures a server's life: start to healthy, idle memory, 64 connects at once, and deaths.

Without --command it is Bessemer with its built-in model, and then also: how soon a worker that is
killed serves again, and how soon workers end when the server is killed.
"""

import asyncio
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from rich.console import Console
from rich.table import Table
from typer import Option

from bessemer.bench.command import command
from bessemer.bench.serving.processes import cost, running_worker

BESSEMER = f"{shlex.quote(sys.executable)} -P -m bessemer.bench.serving.lifecycle --serve"
CONNECTS = 64
PATIENCE = 120.0  # seconds until a server counts as one that does not start
NOWHERE = Path(os.devnull)
NO_OTHERS: Mapping[str, str] = {}


@contextmanager
def running(
    line: str, port: int, said: Path = NOWHERE, environment: Mapping[str, str] = NO_OTHERS
) -> Iterator[tuple[psutil.Process, float]]:
    """Yield the process, and the seconds until it answered; it is killed at the end.

    `said` is the file for what it says; the variables of `environment` come on top of ours.
    """
    began = time.perf_counter()
    with said.open("wb") as out:
        process = subprocess.Popen(
            [*shlex.split(line), "--port", str(port)],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | environment,
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
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def until(condition: Callable[[], bool], began: float) -> float:
    """Wait until the condition holds; return the seconds from `began`."""
    while not condition():
        if time.perf_counter() - began > PATIENCE:
            raise SystemExit("the server does not come up")
        time.sleep(0.005)
    return time.perf_counter() - began


async def connects(port: int) -> list[float]:
    """Return milliseconds of many connections opened at once, to the end of a small answer."""
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
    """Kill the worker; return the seconds until an answer was generated anew."""
    began = time.perf_counter()
    worker = running_worker(server)
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
    """Kill the server; return the seconds until its workers are gone."""
    workers = server.children()
    began = time.perf_counter()
    server.kill()
    return until(lambda: not any(map(_runs, workers)), began)


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def measure(line: str, port: int, rounds: int, ours: bool) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        with running(line, port) as (server, seconds):
            figures.setdefault("start to healthy, s", []).append(seconds)
            time.sleep(1)
            figures.setdefault("idle PSS, MB", []).append(cost(server).pss / 1e6)
            slowest = max(asyncio.run(connects(port)))
            figures.setdefault(f"slowest of {CONNECTS} connects, ms", []).append(slowest)
            if ours:
                restart = worker_restart(server, port)
                figures.setdefault("worker killed to serving again, s", []).append(restart)
                end = workers_end(server)
                figures.setdefault("server killed to workers gone, s", []).append(end)
    return figures


# fmt: off
@command(__doc__)
def main(
    line: Annotated[str, Option(
        "--command", help="A server; --port is added to it.", show_default="Bessemer",
    )] = BESSEMER,
    port: Annotated[int, Option(help="The port to use.")] = 8765,
    rounds: Annotated[int, Option(help="Lives of the server.")] = 5,
    serve: Annotated[bool, Option("--serve", hidden=True)] = False,
) -> int:
    # fmt: on
    if serve:
        from bessemer.http.cli import main as bessemer

        return bessemer(["serve", "--model", "guide", "--port", str(port), "--log-level", "error"])
    ours = line == BESSEMER
    figures = measure(line, port, rounds, ours)
    table = Table("bessemer" if ours else line.split()[0], "median", "min", "max")
    for name, values in figures.items():
        low, high = min(values), max(values)
        table.add_row(name, *(f"{v:.3g}" for v in (statistics.median(values), low, high)))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
