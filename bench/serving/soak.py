"""Soaks a server of the built-in model: thousands of mixed requests, of which some clients leave.

python -P -m bessemer.bench.serving.soak --requests 10000 --streams 32

Every completed answer is compared with the one that its request gets alone, and the worker's
memory with the plan that is printed at start. With --kills and --hangs its worker is killed or
hangs (stopped, also while it loads; stuck in a step) so often under the load; each request must
still end in a whole answer or a proper error, and the server must serve again when it said so.
"""

import asyncio
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
from rich.table import Table
from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.compare.show import console
from bessemer.bench.serving.deaths import MODEL, Deaths, hooked, planned, siege
from bessemer.bench.serving.exchange import Outcome, post
from bessemer.bench.serving.lifecycle import BESSEMER, running
from bessemer.bench.serving.processes import running_worker, worker_of

WORDS = ("serve", "model", "how", "kernel", "page", "the", "of", "cache", "a", "port", "key", "Mac")
BODIES = 160  # different requests
LOOK = 0.25  # seconds between two looks at the worker's memory
UNITS = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and the answer that it gets alone."""

    path: str
    body: dict[str, Any]
    text: str = ""


@dataclass(slots=True)
class Tally:
    """What became of a soak's requests."""

    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    deaths: Deaths = field(default_factory=Deaths)

    def note(self, ask: Ask, outcome: Outcome) -> None:
        self.deaths.note(outcome, time.perf_counter())
        if not outcome.proper:
            self.wrong.append(f"lost: {outcome.status} {outcome.error or 'no error'} {ask.body}")
        if outcome.whole and outcome.status == 200 and outcome.text != ask.text:
            self.wrong.append(f"other than alone: {outcome.text!r} {ask.text!r} {ask.body}")
        if outcome.status == 503 and not outcome.retry_after:
            self.wrong.append(f"503 without Retry-After: {outcome.error}")
        answered = "answered" if outcome.whole and outcome.status == 200 else outcome.error
        self.ends["left" if outcome.left else answered or "lost"] += 1


def asks(seed: int, count: int = BODIES) -> list[Ask]:
    """Make requests of all kinds, whose answers depend on nothing but themselves."""
    made, rng = [], random.Random(seed)
    for number in range(count):
        words = " ".join(rng.choices(WORDS, k=rng.choice((3, 10, 40, 200))))
        body: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": rng.choice((1, 8, 24, 60)),
            "stream": rng.random() < 0.6,
            "temperature": rng.choice((0, 0.8, 1.2)),
            "seed": number,
            "ignore_eos": rng.random() < 0.3,
        }
        path = rng.choice(("/v1/completions", "/v1/chat/completions", "/v1/messages"))
        if path == "/v1/completions":
            body |= {"prompt": words, "n": rng.choice((1, 1, 3)), "stop": ["zq"]}
        else:
            body |= {"messages": [{"role": "user", "content": words}]}
        if path != "/v1/messages" and rng.random() < 0.3:
            body |= {"repetition_penalty": 1.3, "frequency_penalty": 0.5}
        made.append(Ask(path, body))
    return made


async def alone(port: int, made: Sequence[Ask]) -> list[Ask]:
    """Ask each by itself. Raises SystemExit where one is not answered."""
    known = []
    for ask in made:
        outcome = await post(port, ask.path, ask.body)
        if not outcome.whole or outcome.status != 200:
            raise SystemExit(f"{ask} alone: {outcome}")
        known.append(Ask(ask.path, ask.body, outcome.text))
    return known


async def soak(
    port: int, made: Sequence[Ask], tally: Tally, *, requests: int, streams: int, leave: float
) -> None:
    """Ask `requests` times, `streams` at once; a part `leave` of the clients hang up."""
    rng, left = random.Random(requests), iter(range(requests))

    async def client() -> None:
        for _ in left:
            ask = rng.choice(made)
            quits = rng.random() < leave
            outcome = await post(port, ask.path, ask.body, rng.uniform(0, 0.3) if quits else None)
            tally.note(ask, outcome)
            if outcome.retry_after:
                await asyncio.sleep(float(outcome.retry_after))

    await asyncio.gather(*(client() for _ in range(streams)))


@dataclass(frozen=True, slots=True)
class Held:
    """What the processes hold: bytes of memory, the server's descriptors and child processes."""

    server: int
    worker: int
    descriptors: int
    processes: int

    @classmethod
    def by(cls, server: psutil.Process) -> "Held":
        worker = running_worker(server)
        memory = server.memory_info().rss, worker.memory_info().rss
        return cls(*memory, server.num_fds(), len(server.children()))


async def largest(server: psutil.Process) -> int:
    """Look at the worker's memory until cancelled; return the most bytes that were seen."""
    most = 0
    with suppress(asyncio.CancelledError):
        while True:
            with suppress(psutil.Error):  # it dies just now
                worker = worker_of(server)
                most = max(most, worker.memory_info().rss if worker else 0)
            await asyncio.sleep(LOOK)
    return most


def plan(said: str) -> float:
    """Return the bytes of a plan that a server has printed; 0 where it has printed none."""
    line = re.search(r"weights .*(?=; budget)", said)
    sizes = re.findall(r"(?:^|, )[a-zA-Z ]+ ([\d.]+) ([KMG]?B)\b", line[0]) if line else []
    return sum(float(number) * UNITS[unit] for number, unit in sizes)


@contextmanager
def logged(
    line: str, port: int, environment: Mapping[str, str]
) -> Iterator[tuple[psutil.Process, Path]]:
    """Yield a running server and the file of what it says."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        with running(line, port, said, environment) as (server, _):
            yield server, said


# fmt: off
@command(__doc__)
def main(
    line: Annotated[str, Option(
        "--command", help="A server; --port is added to it.", show_default="Bessemer",
    )] = BESSEMER,
    port: Annotated[int, Option(help="The port to use.")] = 8766,
    requests: Annotated[int, Option(help="Requests in all.")] = 10_000,
    streams: Annotated[int, Option(help="Requests at once.")] = 32,
    leave: Annotated[float, Option(help="The part of the clients that hang up.")] = 0.2,
    kills: Annotated[int, Option(
        help="How often the worker is killed; then the load goes on until it was.",
    )] = 0,
    hangs: Annotated[int, Option(help="How often the worker hangs, in each way in turn.")] = 0,
    series: Annotated[int, Option(
        help="Deaths one after another; before each series it serves for a while.",
    )] = 4,
    watchdog: Annotated[float, Option(
        help="The server's --watchdog, and a tenth of its --timeout, if the worker is to hang.",
    )] = 3.0,
    seed: Annotated[int, Option(help="Of the requests.")] = 0,
) -> int:
    # fmt: on
    kinds, tally = planned(kills, hangs, seed), Tally()
    limits = {"BESSEMER_WATCHDOG": f"{watchdog}", "BESSEMER_TIMEOUT": f"{10 * watchdog}"}
    with hooked() as hook, logged(line, port, hook | limits if hangs else {}) as (server, said):
        made = asyncio.run(alone(port, asks(seed)))
        before, began = Held.by(server), time.perf_counter()

        async def everything() -> int:
            looking = asyncio.create_task(largest(server))
            count = sys.maxsize if kinds else requests
            load = soak(port, made, tally, requests=count, streams=streams, leave=leave)
            under = asyncio.create_task(load)
            if kinds:
                await siege(port, server, tally.deaths, kinds, series)
                under.cancel()
            await asyncio.wait([under])
            looking.cancel()
            return await looking

        most = asyncio.run(everything())
        seconds = time.perf_counter() - began
        time.sleep(2)
        after, log = Held.by(server), said.read_text()
    wrong = tally.wrong + tally.deaths.wrong
    if "Traceback" in log:
        wrong.append(f"a traceback in the log: {log[log.index('Traceback'):][:2000]}")
    show(tally, seconds, before, after, most, plan(log))
    for each in wrong[:20]:
        print(each[:500], file=sys.stderr)
    print(f"{len(wrong)} wrong", file=sys.stderr)
    return FAILED if wrong else 0


def show(
    tally: Tally, seconds: float, before: Held, after: Held, most: int, planned: float
) -> None:
    table = Table("", "", title=f"{sum(tally.ends.values())} requests in {seconds:.0f} s")
    for name, count in tally.ends.most_common():
        table.add_row(name, str(count))
    for row in tally.deaths.rows():
        table.add_row(*row)
    table.add_row("server, MB", f"{before.server / 1e6:.1f} -> {after.server / 1e6:.1f}")
    worker = f"{before.worker / 1e6:.1f} -> {after.worker / 1e6:.1f}, at most {most / 1e6:.1f}"
    table.add_row("worker, MB", worker)
    if planned:
        share = (most / planned - 1) * 100
        table.add_row("plan as printed, MB", f"{planned / 1e6:.1f}: {share:+.1f} % at most")
    table.add_row("server's descriptors", f"{before.descriptors} -> {after.descriptors}")
    table.add_row("server's processes", f"{before.processes} -> {after.processes}")
    console(False).print(table)


if __name__ == "__main__":
    sys.exit(main())
