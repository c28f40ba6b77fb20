"""How a worker dies or hangs under load, how soon it is back, and what clients were told."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from bessemer.bench.serving.exchange import Outcome, post
from bessemer.bench.serving.processes import running_worker, worker_of
from bessemer.http.fleet import STABLE

MODEL = "bessemer-guide"
SETTLED = 1.0  # seconds between a worker's return and its next death in a series
PATIENCE = 200.0  # seconds until a worker counts as one that does not come back
IN_TIME = 1.0  # seconds after the time that a client was told, within which it must be served

STUCK, DEAF = signal.SIGUSR1, signal.SIGUSR2  # for a worker with our hook
KILLED = "killed"
LOADING = "stopped while it loads"
SIGNALS = {
    KILLED: signal.SIGKILL,
    "stopped": signal.SIGSTOP,
    LOADING: signal.SIGSTOP,
    "stuck in a step": STUCK,
    "stuck with the interpreter's lock": DEAF,
}
HANGS = [kind for kind in SIGNALS if kind != KILLED]

# What Python runs at start, in a worker only: handlers for these two.
HOOK = """
import sys

if "bessemer.engine.worker" in sys.orig_argv:
    import ctypes, signal, time

    def stuck(number, frame):
        while frame and frame.f_code.co_name != "step":
            frame = frame.f_back
        if frame:
            time.sleep(1e6)
        signal.setitimer(signal.ITIMER_REAL, 0.001)  # it waits for work: try again

    signal.signal(signal.SIGUSR1, stuck)
    signal.signal(signal.SIGALRM, stuck)
    signal.signal(signal.SIGUSR2, lambda *_: ctypes.PyDLL(None).sleep(10**6))
"""


@contextmanager
def hooked() -> Iterator[dict[str, str]]:
    """Yield the environment of a server whose workers can get stuck."""
    with TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(HOOK)
        yield {"PYTHONPATH": folder}


def planned(kills: int, hangs: int, seed: int) -> list[str]:
    """Return so many deaths, of all kinds, in an order of chance."""
    kinds = [KILLED] * kills + [*islice(cycle(HANGS), hangs)]
    random.Random(seed).shuffle(kinds)
    return kinds


@dataclass(slots=True)
class Deaths:
    """What came of deaths: seconds until service by kind, and how true each Retry-After was."""

    back: dict[str, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)  # seconds after the time that was told
    wrong: list[str] = field(default_factory=list)
    _told: list[float] = field(default_factory=list)  # when clients should come, by the clock

    def note(self, outcome: Outcome, now: float) -> None:
        """Note what a client was told since the latest death."""
        if outcome.status == 503 and outcome.retry_after:
            self._told.append(now + float(outcome.retry_after))

    def begin(self) -> None:
        """Forget what was told: that a worker dies or hangs once more is known to nobody."""
        self._told.clear()

    def end(self, kind: str, began: float, now: float) -> None:
        """Note that the server generates again."""
        self.back.setdefault(kind, []).append(now - began)
        self.late += [now - told for told in self._told]
        self._told.clear()

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield a table's rows."""
        for kind, times in sorted(self.back.items()):
            shown = f"median {median(times):.2f}, longest {max(times):.2f}"
            yield f"{kind} ({len(times)}): back after, s", shown
        if self.late:
            kept = sum(late <= IN_TIME for late in self.late)
            shown = f"{kept}, the latest {max(self.late):.2f} s after it"
            yield f"Retry-After ({len(self.late)}) came true within {IN_TIME:.0f} s", shown


async def siege(
    port: int, server: psutil.Process, deaths: Deaths, kinds: Sequence[str], series: int
) -> None:
    """Let the worker die of each kind in turn, and wait each time until the server generates.

    They come in series; before each, the worker serves so long that its death is a first one.
    """
    for number, kind in enumerate(kinds):
        first = number % series == 0
        await asyncio.sleep(STABLE + 1 if first else SETTLED)
        worker = await _loading(server) if kind == LOADING else running_worker(server)
        deaths.begin()
        began = time.perf_counter()
        worker.send_signal(SIGNALS[kind])
        if not await _comes_back(port, server, worker, deaths, kind):
            deaths.wrong.append(f"not back {PATIENCE:.0f} s after it was {kind}")
            return
        name = f"{kind}, {'first' if first else 'later'}" if kind == KILLED else kind
        deaths.end(name, began, time.perf_counter())


async def _loading(server: psutil.Process) -> psutil.Process:
    """Kill the worker; return the next one while it is likely to load."""
    worker = running_worker(server)
    worker.kill()
    while worker_of(server) in (None, worker):
        await asyncio.sleep(0.01)
    await asyncio.sleep(random.uniform(0, 0.6))
    return running_worker(server)


async def _comes_back(
    port: int, server: psutil.Process, worker: psutil.Process, deaths: Deaths, kind: str
) -> bool:
    end = time.perf_counter() + PATIENCE
    while worker_of(server) == worker and time.perf_counter() < end:
        await asyncio.sleep(0.01)
    if kind == LOADING:
        deaths.begin()  # until then the server thought that it would be ready soon
    while time.perf_counter() < end:
        if worker_of(server) and await _generates(port):
            return True
        await asyncio.sleep(0.02)
    return False


async def _generates(port: int) -> bool:
    body = {"model": MODEL, "prompt": "a", "max_tokens": 1}
    return (await post(port, "/v1/completions", body, leave=5)).status == 200
