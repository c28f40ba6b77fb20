"""Sends a server of the built-in model hostile requests, while others use it.

python -P -m bessemer.bench.serving.siege --times 10

A process beside it asks for /health again and again, and reads a stream: their waits with each
attack, and in the second before it, are the figures, and the most that the server's memory grows.
The stream is not the attacker's: it comes from another address. Where Linux says how long those who
take part waited for a core, that is no part of a wait, so that other work of the machine counts for
less. `fair` is one client that floods, and the time to the first token of another. With
BESSEMER_API_KEY set, the attacks come without a key.
"""

import asyncio
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any
from urllib.request import urlopen

from psutil import Process
from rich.table import Table
from typer import Option

from bessemer.bench.command import NAMES, command
from bessemer.bench.compare.show import console
from bessemer.bench.serving.exchange import post
from bessemer.bench.serving.lifecycle import BESSEMER, running
from bessemer.bench.serving.processes import kept_waiting, running_worker

MODEL = "bessemer-guide"
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PATIENCE = 120.0  # seconds for the answer to an attack
IDLE = 4.0  # seconds of looking without an attack
QUIET = 1.0  # and so many before each
OTHER = "127.0.0.2", 0  # the address of a client that does not attack
EVERY = 0.01  # seconds between two looks at /health


def request(path: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Host": "127.0.0.1", "Content-Length": str(len(data))} | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\nConnection: close\r\n{head}\r\n".encode() + data


def completion(**fields: object) -> bytes:
    return request(COMPLETIONS, {"model": MODEL, "max_tokens": 1, "prompt": "a"} | fields)


def said(text: str, path: str = CHAT) -> bytes:
    body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": text}]}
    return request(path, body)


def chunked(pieces: int) -> bytes:
    """Return a body in chunks of one byte each."""
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"1\r\n \r\n" * pieces + b"0\r\n\r\n"


def both_lengths() -> bytes:
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    fields = {"Content-Length": str(5 + len(hidden)), "Transfer-Encoding": "chunked"}
    return request(COMPLETIONS, b"0\r\n\r\n" + hidden, fields)


def stops(times: int) -> list[str]:
    return ["}}}" * 300 * times + "\x01", *(f"{i}" + "x" * 900 * times for i in range(63))]


def messages(count: int) -> bytes:
    turns = [{"role": ("user", "assistant")[i % 2], "content": "hi"} for i in range(count + 1)]
    return request(CHAT, {"model": MODEL, "max_tokens": 1, "messages": turns})


FLOOD: Any = {"n": 64, "max_tokens": 300, "ignore_eos": True}
EVIL = {"Origin": "http://evil.example", "Host": "evil.example", "Content-Type": "text/plain"}
# Each attack's requests, at a size; `times` 1 is a tenth of what once stopped a server.
ATTACKS: Mapping[str, Callable[[int], Sequence[bytes]]] = {
    "freeze": lambda t: [said("a b c " * (166_000 * t), "/v1/messages/count_tokens")],
    "letters": lambda t: [said("a" * 1_000_000 * t)],
    "spaces": lambda t: [said(" " * 1_000_000 * t)],
    "control": lambda t: [said("<|im_end|>" * 100_000 * t)],
    "seqs": lambda t: [completion(prompt=["a"] * 1024 * t, n=64)],
    "q257": lambda t: [completion(prompt=["a"] * 257 * t)],
    "bias": lambda t: [
        completion(
            max_tokens=20, ignore_eos=True, logit_bias={str(i): 0.001 for i in range(30_000 * t)}
        )
    ],
    "stops": lambda t: [
        completion(n=16, max_tokens=300, logit_bias={"960": 100}, stop=stops(t)),
    ],
    "oom": lambda t: [completion(prompt=["a"] * 1024, n=64, stop="q" * 100_000 * t)],
    "csrf": lambda t: [request(COMPLETIONS, {"model": MODEL, "prompt": "a"}, EVIL)] * t,
    "clte": lambda t: [both_lengths()] * t,
    "chunks": lambda t: [chunked(100_000 * t)],
    "messages": lambda t: [messages(10_000 * t)],
    "bodies": lambda t: [said(f"{i} " + "word " * 2_000_000) for i in range(6 * t)],
    "flood": lambda t: [completion(**FLOOD, prompt=f"{i}") for i in range(t)],
}


class Clock:
    """The time less what this process and others had to wait for a core."""

    def __init__(self, *others: int) -> None:
        self._processes = os.getpid(), *others

    def ms(self) -> float:
        return time.perf_counter() * 1e3 - sum(map(kept_waiting, self._processes))


@dataclass(slots=True)
class Waits:
    """What others wait for, in milliseconds: /health, and the next token of a stream.

    `quiet` is the longest wait for /health before the attack; `grown` in bytes, at its peak.
    """

    health: list[float]
    gaps: list[float]
    quiet: float = 0.0
    grown: int = 0


def look(port: int, server: int, begun: Any, over: Any, answers: Any) -> None:
    """Look until told that it is over; runs in a process of its own."""
    answers.put(asyncio.run(_look(port, server, begun, over)))


async def _look(port: int, server: int, begun: Any, over: Any) -> Waits:
    waits = Waits([], [])
    reading = asyncio.create_task(_read_streams(port, server, waits.gaps))
    end = time.perf_counter() + QUIET
    while time.perf_counter() < end:
        waits.quiet = max(waits.quiet, await _health(port, server))
    waits.gaps.clear()
    begun.set()
    while not over.is_set():
        waits.health.append(await _health(port, server))
    reading.cancel()
    return waits


async def _health(port: int, server: int) -> float:
    clock = Clock(server)
    began = clock.ms()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    await reader.read()
    waited = clock.ms() - began
    writer.close()
    await asyncio.sleep(EVERY)
    return max(waited, 0.0)


async def _read_streams(port: int, server: int, gaps: list[float]) -> None:
    clock = Clock(server, running_worker(Process(server)).pid)
    fields = {"max_tokens": 1000, "ignore_eos": True, "stream": True}
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=OTHER)
        writer.write(completion(**fields))
        last = 0.0
        while part := await reader.read(1 << 16):
            now = clock.ms()
            if last:
                gaps.append(max(now - last, 0.0))
            last = now if b"data: " in part else last
        writer.close()
        await asyncio.sleep(EVERY)


def attack(port: int, data: bytes) -> tuple[str, float]:
    """Send a request; return the status and code that it got, and the seconds until then."""
    began, parts, seconds = time.perf_counter(), list[bytes](), PATIENCE
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
    ):
        with suppress(OSError):  # it may be refused before it was read to its end
            connection.sendall(data)
        while part := connection.recv(1 << 16):
            seconds = time.perf_counter() - began if not parts else seconds
            parts.append(part)
    raw = b"".join(parts)
    status = raw.split(b" ", 2)[1].decode() if raw.startswith(b"HTTP/1.1 ") else "none"
    code = raw.partition(b'"code":"')[2].partition(b'"')[0].decode()
    return f"{status} {code}".strip(), seconds


def measure(
    server: Process, port: int, requests: Sequence[bytes], least: float
) -> tuple[Waits, list[Any]]:
    """Look at others' waits while requests are sent, all at once, or for `least` seconds."""
    context = multiprocessing.get_context("spawn")
    begun, over, answers = context.Event(), context.Event(), context.Queue()
    looking = context.Process(target=look, args=(port, server.pid, begun, over, answers))
    looking.start()
    begun.wait(PATIENCE)
    before = server.memory_info().rss
    with ThreadPoolExecutor(len(requests) + 1) as pool:
        peak = pool.submit(peak_memory, server, over)
        until = time.perf_counter() + least
        ends = list(pool.map(lambda data: attack(port, data), requests))
        time.sleep(max(until - time.perf_counter(), 0.5))
        over.set()
    waits: Waits = answers.get(timeout=PATIENCE)
    waits.grown = peak.result() - before
    looking.join()
    return waits, ends


def peak_memory(server: Process, over: Any) -> int:
    """Sample what a server has resident until that is over; return the most."""
    most = 0
    while not over.wait(0.005):
        most = max(most, server.memory_info().rss)
    return most


async def first_tokens(port: int, count: int) -> list[float]:
    """Return the milliseconds to the first token of short requests, one after the other."""
    times: list[float] = []
    end = time.perf_counter() + PATIENCE
    for number in range(count):
        if time.perf_counter() > end:
            break
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=OTHER)
        writer.write(completion(prompt=f"Number {number}", max_tokens=2, stream=True))
        while b"data: " not in await reader.read(1 << 16):
            pass
        times.append((time.perf_counter() - began) * 1e3)
        writer.close()
        await asyncio.sleep(0.02)
    return times


async def beside_a_flood(port: int, count: int) -> list[float]:
    """Measure the same while another client keeps five requests of 64 answers under way."""

    async def flood(number: int) -> None:
        while True:
            await post(port, COMPLETIONS, {"model": MODEL, "prompt": f"{number}", **FLOOD})
            await asyncio.sleep(0.05)

    floods = [asyncio.create_task(flood(number)) for number in range(5)]
    await asyncio.sleep(2)
    try:
        return await first_tokens(port, count)
    finally:
        for each in floods:
            each.cancel()


def fairness(port: int, count: int = 40) -> str:
    idle = asyncio.run(first_tokens(port, count))
    beside = asyncio.run(beside_a_flood(port, count))
    ratio = median(beside) / median(idle)
    return f"{median(idle):.1f} ms idle, {median(beside):.1f} ms beside a flood: {ratio:.2f}"


# fmt: off
@command(__doc__)
def main(
    line: Annotated[str, Option(
        "--command", help="A server; --port is added to it.", show_default="Bessemer",
    )] = BESSEMER,
    port: Annotated[int, Option(help="The port to use.")] = 8767,
    times: Annotated[int, Option(help="The size of the attacks.")] = 10,
    only: Annotated[tuple[str, ...], Option(**NAMES, help="These attacks.")] = (*ATTACKS, "fair"),
) -> int:
    # fmt: on
    columns = "answer", "before, most", "/health, ms", "most", "gap, ms", "99 %", "most", "peak, MB"
    table = Table("", *columns)
    for name in ("fair", *(each for each in only if each != "fair")):
        with running(line, port) as (server, _):
            urlopen(f"http://127.0.0.1:{port}/health").read()
            if name == "fair" and name in only:
                print(f"time to the first token: {fairness(port)}", flush=True)
            requests = list(ATTACKS[name](times)) if name in ATTACKS else []
            waits, ends = measure(server, port, requests, 0 if requests else IDLE)
        name = name if requests else "idle"
        table.add_row(name, *row(waits, ends))
        print(name, *row(waits, ends), sep=" | ", flush=True)
    console(False).print(table)
    return 0


def row(waits: Waits, ends: Sequence[tuple[str, float]]) -> list[str]:
    answers = sorted({f"{said} after {seconds:.2f} s" for said, seconds in ends[:3]})
    gaps = sorted(waits.gaps) or [float("nan")]
    return [
        "; ".join(answers),
        f"{waits.quiet:.0f}",
        f"{median(waits.health):.1f}",
        f"{max(waits.health):.0f}",
        f"{median(gaps):.2f}",
        f"{gaps[int(len(gaps) * 0.99)]:.1f}",
        f"{max(gaps):.0f}",
        f"{waits.grown / 1e6:+.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
