"""The cost of a request that another server answers: beside asking that one, and a bare proxy.

python -P -m bessemer.bench.serving.gateway

The provider answers at once, on loopback, in a process of its own; so do Bessemer, as `bessemer
serve` with a config.toml, and a proxy that passes on bytes and reads none of them. A translated
request is an Anthropic client's to a provider of OpenAI's format. Events tell when they were sent.
"""

import asyncio
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median
from typing import Annotated, Any, cast

import psutil
import uvloop
from rich.table import Table
from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.compare.show import console
from bessemer.bench.serving.processes import cost, peak
from bessemer.http.listen import descriptors

MOST_CPU = 0.5  # milliseconds of the server for a request that is not streamed
MOST_MEMORY = 150e6  # bytes that a thousand streams add
CROWD, EVENTS = 1000, 20  # streams, and events of each
PAUSE = 0.5  # seconds between two of those events
MODEL = re.compile(rb'"model": ?"(?:[a-z]+/)?(\d+)x(\d+)"')  # events, and microseconds between two
STAMP = re.compile(rb"at (\d+)")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It is so. " * 40},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 120, "total_tokens": 129},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"at %d "},"finish_reason":%b}]}\n\n'
)


class Provider(asyncio.Protocol):
    """A server that answers at once, or streams as the model's name says."""

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return
        self._data = b""
        asked = MODEL.search(body)
        if asked is None or b'"stream":' not in body:
            self._transport.write(HEAD % len(ANSWER) + ANSWER)
            return
        self._transport.write(STREAM)
        self._stream(int(asked[1]), int(asked[2]) / 1e6)

    def _stream(self, left: int, pause: float) -> None:
        if self._transport.is_closing():
            return
        event = CHUNK % (time.monotonic_ns(), b"null" if left > 1 else b'"stop"')
        if left > 1:
            asyncio.get_running_loop().call_later(pause, self._stream, left - 1, pause)
        else:
            event += b"data: [DONE]\n\n"
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        if left <= 1:
            self._transport.write(b"0\r\n\r\n")


class BareProxy(asyncio.Protocol):
    """One end of a connection whose bytes go to the other end."""

    def __init__(self, port: int, other: "BareProxy | None" = None) -> None:
        self._port, self._other = port, other
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._other is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, self._other = await loop.create_connection(
            lambda: BareProxy(self._port, self), "127.0.0.1", self._port
        )
        self._other.transport.write(b"".join(self._early))

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._other.transport.close()


def _listen(protocol: Callable[[], asyncio.Protocol], told: Pipe) -> None:
    async def serve() -> None:
        descriptors()
        server = await asyncio.get_running_loop().create_server(
            protocol, "127.0.0.1", 0, backlog=2 * CROWD
        )
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


@dataclass(frozen=True, slots=True)
class Way:
    """A way to the provider: the port that is asked, the request, and the process in between."""

    name: str
    port: int
    translated: bool = False
    model: str = ""
    process: psutil.Process | None = None

    def request(self, events: int = 0, pause: float = 0.0) -> bytes:
        """Return a request; with `events`, of a stream of so many."""
        path = "/v1/messages" if self.translated else "/v1/chat/completions"
        body: dict[str, Any] = {"model": f"{self.model}{events}x{int(pause * 1e6)}"}
        body |= {"max_tokens": 200, "messages": [{"role": "user", "content": "Is it so? " * 20}]}
        data = json.dumps(body | ({"stream": True} if events else {})).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        key = "authorization: Bearer k\r\n"
        return f"{head}{key}content-length: {len(data)}\r\n\r\n".encode() + data

    @property
    def cpu(self) -> float:
        return 0.0 if self.process is None else cost(self.process).server_cpu


@contextmanager
def child(protocol: Callable[[], asyncio.Protocol]) -> Iterator[tuple[int, psutil.Process]]:
    """Serve in a process of its own; yield the port."""
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=_listen, args=(protocol, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv(), psutil.Process(process.pid)
    finally:
        process.kill()
        process.join()


@contextmanager
def bessemer(provider: int) -> Iterator[tuple[int, psutil.Process]]:
    """Run `bessemer serve` with one provider; yield the port."""
    with tempfile.TemporaryDirectory() as directory:
        settings = f'[providers.far]\nurl = "http://127.0.0.1:{provider}"\nmodels = ["m"]\n'
        Path(directory, "config.toml").write_text(settings)
        command = [sys.executable, "-P", "-m", "bessemer", "serve", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--log-level", "warning"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"BESSEMER_CONFIG_DIR": directory},
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield int(line.rpartition(":")[2]), psutil.Process(process.pid)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def latencies(way: Way, count: int) -> tuple[list[float], float]:
    """Return the seconds of requests one after the other, and the process's for one of them."""
    request, times = way.request(), list[float]()
    with closing(socket.create_connection(("127.0.0.1", way.port))) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = way.cpu
        for _ in range(count):
            began = time.perf_counter()
            wire.sendall(request)
            _whole(wire)
            times.append(time.perf_counter() - began)
        return times, (way.cpu - before) / count


def _whole(wire: socket.socket) -> None:
    data = b""
    while True:
        if not (piece := wire.recv(1 << 16)):
            raise RuntimeError(f"an answer broke off: {data[:200]!r}")
        data += piece
        head, end, body = data.partition(b"\r\n\r\n")
        if end and (length := LENGTH.search(head)) and len(body) >= int(length[1]):
            if b" 200 " not in head[:20]:
                raise RuntimeError(f"a request was refused: {data[:400]!r}")
            return


def delays(way: Way, events: int, pause: float) -> tuple[list[float], float]:
    """Return how many seconds events of a stream were on their way, and the process's for one."""
    found: list[float] = []
    with closing(socket.create_connection(("127.0.0.1", way.port))) as wire:
        before = way.cpu
        wire.sendall(way.request(events, pause))
        while len(found) < events:
            data = wire.recv(1 << 16)
            now = time.monotonic_ns()
            if not data:
                raise RuntimeError(f"a stream broke off after {len(found)} events")
            found += [(now - int(stamp)) / 1e9 for stamp in STAMP.findall(data)]
        return found, (way.cpu - before) / events


@dataclass
class Crowd(asyncio.Protocol):
    """A client of one stream, which counts its events."""

    request: bytes
    over: "asyncio.Future[int]"
    data: bytearray = field(default_factory=bytearray)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.data.endswith(b"0\r\n\r\n"):
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(len(STAMP.findall(self.data)))


async def crowd(way: Way, streams: int) -> list[int]:
    """Return how many events came of each of so many streams at once."""
    loop = asyncio.get_running_loop()
    descriptors()
    request, found = way.request(EVENTS, PAUSE), list[asyncio.Future[int]]()
    for _ in range(streams):
        over = loop.create_future()
        found.append(over)
        await loop.create_connection(partial(Crowd, request, over), "127.0.0.1", way.port)
    return await asyncio.gather(*found)


# fmt: off
@command(__doc__)
def main(
    requests: Annotated[int, Option(min=10, help="One after the other, each way and round.")] = 400,
    events: Annotated[int, Option(min=10, help="Of a stream, each way and round.")] = 300,
    rounds: Annotated[int, Option(min=1, help="Ways take turns.")] = 5,
    streams: Annotated[int, Option(min=1, help="At once.")] = CROWD,
) -> int:
    # fmt: on
    """Exit with 1 where an event is lost, or the server takes more than it may."""
    with ExitStack() as stack:
        provider, _ = stack.enter_context(child(Provider))
        bare, proxy = stack.enter_context(child(partial(BareProxy, provider)))
        port, server = stack.enter_context(bessemer(provider))
        same = Way("same dialect", port, model="far/", process=server)
        translated = Way("translated", port, True, "far/", server)
        ways = Way("direct", provider), Way("bare proxy", bare, process=proxy), same, translated
        table = Table("", "way", "median ms", "added ms", "processor ms each")
        bad = _requests(table, ways, requests, rounds) | _events(table, ways, events, rounds)
        crowds = [_crowded(table, way, streams) for way in (same, translated)]
    console().print(table)
    return FAILED if bad or any(crowds) else 0


def _requests(table: Table, ways: Sequence[Way], count: int, rounds: int) -> bool:
    found = _rounds(ways, rounds, lambda way: latencies(way, count))
    _told(table, "a request", ways, found)
    cpu = median(found["same dialect"][1]) * 1e3
    each = count / sum(found["same dialect"][0][-count:])
    table.add_row("", "", f"{each:.0f} requests a second, one client, same dialect", "", "")
    return cpu > MOST_CPU


def _events(table: Table, ways: Sequence[Way], count: int, rounds: int) -> bool:
    _told(table, "an event", ways, _rounds(ways, rounds, lambda way: delays(way, count, 0.003)))
    return False


Found = Mapping[str, tuple[list[float], list[float]]]


def _rounds(
    ways: Sequence[Way], rounds: int, measure: Callable[[Way], tuple[list[float], float]]
) -> Found:
    """Return all times and the processor's means of rounds in which the ways take turns."""
    found: dict[str, tuple[list[float], list[float]]] = {way.name: ([], []) for way in ways}
    for way in ways:
        measure(way)  # which warms it
    for _ in range(rounds):
        for way in ways:
            times, cpu = measure(way)
            found[way.name][0].extend(times)
            found[way.name][1].append(cpu)
    return found


def _told(table: Table, what: str, ways: Sequence[Way], found: Found) -> None:
    direct = median(found["direct"][0])
    for way in ways:
        times, cpu = found[way.name]
        added = f"{(median(times) - direct) * 1e3:.3f}" if way.process else ""
        spent = f"{median(cpu) * 1e3:.3f}" if way.process else ""
        table.add_row(what, way.name, f"{median(times) * 1e3:.3f}", added, spent)


def _crowded(table: Table, way: Way, streams: int) -> bool:
    """Tell what so many streams take; return whether it is too much, or an event was lost."""
    assert way.process is not None
    before, cpu = way.process.memory_info().rss, way.cpu
    counts = uvloop.run(crowd(way, streams))
    more, lost = peak(way.process) - before, streams * EVENTS - sum(counts)
    spent = (way.cpu - cpu) / (streams * EVENTS) * 1e3
    said = f"{more / 1e6:.0f} MB more, {lost} events lost"
    table.add_row(f"{streams} streams", way.name, said, "", f"{spent:.3f}")
    return lost != 0 or more > MOST_MEMORY


if __name__ == "__main__":
    raise SystemExit(main())
