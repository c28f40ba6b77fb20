"""Soaks a server of the built-in model: thousands of mixed requests, of which some clients leave.

python -P -m bessemer.bench.serving.soak --requests 10000 --streams 32

Every completed answer is compared with the one that its request gets alone. With --kills and
--hangs its worker is killed (SIGKILL) or stopped (SIGSTOP) so often under the load; each request
must still end in a whole answer or a proper error, and the server must serve again.
"""

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import psutil
from rich.table import Table
from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.compare.show import console
from bessemer.bench.serving.exchange import Outcome, post
from bessemer.bench.serving.lifecycle import BESSEMER, running

MODEL = "bessemer-guide"
WORDS = ("serve", "model", "how", "kernel", "page", "the", "of", "cache", "a", "port", "key", "Mac")
BODIES = 160  # different requests
SETTLED = 1.0  # seconds between a worker's return and its next death


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
    back: dict[str, list[float]] = field(default_factory=dict)

    def note(self, ask: Ask, outcome: Outcome) -> None:
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
                await asyncio.sleep(min(float(outcome.retry_after), 1))

    await asyncio.gather(*(client() for _ in range(streams)))


async def siege(port: int, server: psutil.Process, tally: Tally, signals: Sequence[int]) -> None:
    """Send the worker each signal in turn, and wait until the server generates again."""
    for number in signals:
        worker = worker_of(server)
        began = time.perf_counter()
        worker.send_signal(number)
        while worker_of(server) in (None, worker) or not await _generates(port):
            if time.perf_counter() - began > 90:
                tally.wrong.append(f"not back 90 s after {signal.Signals(number).name}")
                return
            await asyncio.sleep(0.02)
        name = signal.Signals(number).name
        tally.back.setdefault(name, []).append(time.perf_counter() - began)
        await asyncio.sleep(SETTLED)


def worker_of(server: psutil.Process) -> Any:
    """Return the worker's process; None while there is none."""
    for child in server.children():
        try:
            if "bessemer.engine.worker" in child.cmdline():
                return child
        except psutil.Error:
            continue
    return None


async def _generates(port: int) -> bool:
    body = {"model": MODEL, "prompt": "a", "max_tokens": 1}
    return (await post(port, "/v1/completions", body, leave=5)).status == 200


@dataclass(frozen=True, slots=True)
class Held:
    """What the processes hold: bytes of memory, and descriptors of the server."""

    server: int
    worker: int
    descriptors: int

    @classmethod
    def by(cls, server: psutil.Process) -> "Held":
        worker = worker_of(server)
        return cls(server.memory_info().rss, worker.memory_info().rss, server.num_fds())


@contextmanager
def logged(line: str, port: int) -> Iterator[tuple[psutil.Process, Path]]:
    """Yield a running server and the file of what it says on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "stderr"
        with running(line, port, said) as (server, _):
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
    hangs: Annotated[int, Option(help="How often the worker is stopped.")] = 0,
    seed: Annotated[int, Option(help="Of the requests.")] = 0,
) -> int:
    # fmt: on
    signals = [signal.SIGKILL] * kills + [signal.SIGSTOP] * hangs
    random.Random(seed).shuffle(signals)
    tally = Tally()
    with logged(line, port) as (server, said):
        made = asyncio.run(alone(port, asks(seed)))
        before = Held.by(server)

        async def everything() -> None:
            count = sys.maxsize if signals else requests
            load = soak(port, made, tally, requests=count, streams=streams, leave=leave)
            under = asyncio.create_task(load)
            if signals:
                await siege(port, server, tally, signals)
                under.cancel()
            await asyncio.wait([under])

        began = time.perf_counter()
        asyncio.run(everything())
        seconds = time.perf_counter() - began
        time.sleep(2)
        after, log = Held.by(server), said.read_text()
    if "Traceback" in log:
        tally.wrong.append(f"a traceback in the log: {log[log.index('Traceback'):][:2000]}")
    show(tally, seconds, before, after)
    return FAILED if tally.wrong else 0


def show(tally: Tally, seconds: float, before: Held, after: Held) -> None:
    table = Table("", "", title=f"{sum(tally.ends.values())} requests in {seconds:.0f} s")
    for name, count in tally.ends.most_common():
        table.add_row(name, str(count))
    for name, times in tally.back.items():
        shown = f"median {median(times):.2f}, first {times[0]:.2f}, longest {max(times):.2f}"
        table.add_row(f"{name}: back after, s ({len(times)})", shown)
    table.add_row("server, MB", f"{before.server / 1e6:.1f} -> {after.server / 1e6:.1f}")
    table.add_row("worker, MB", f"{before.worker / 1e6:.1f} -> {after.worker / 1e6:.1f}")
    table.add_row("server's descriptors", f"{before.descriptors} -> {after.descriptors}")
    console(False).print(table)
    for wrong in tally.wrong[:20]:
        print(wrong[:500], file=sys.stderr)
    print(f"{len(tally.wrong)} wrong", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
