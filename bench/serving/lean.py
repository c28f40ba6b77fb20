"""Streams over raw sockets in one thread, which only notes the time of what arrives; read later.

Where server and client share few cores, a client that parses while it measures slows the server.
"""

import json
import re
import selectors
import socket
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

END = b"data: [DONE]"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TIMEOUT = 30.0  # seconds for a connection, and for an answer to GET


@dataclass(slots=True)
class Reply:
    """Times are in seconds of one clock; `pieces` are the moments at which text arrived."""

    began: float
    status: int = 0
    ended: float = 0.0
    pieces: list[float] = field(default_factory=list)
    tokens: int = 0  # as the server counted them; 0 where it did not
    prompt_tokens: int = 0
    error: str = ""

    @property
    def ttft(self) -> float:
        return self.pieces[0] - self.began

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.pieces, self.pieces[1:], strict=False)]


@dataclass(slots=True)
class Wire:
    """One connection: what arrived and when."""

    socket: socket.socket
    began: float
    pieces: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    tail: bytes = b""
    error: str = ""

    def receive(self) -> bool:
        """Receive what is there; return whether more may come."""
        try:
            data = self.socket.recv(1 << 18)
        except OSError as error:
            self.error = f"{type(error).__name__}: {error}"
            return False
        self.times.append(time.perf_counter())
        self.pieces.append(data)
        seen = self.tail + data
        self.tail = seen[-len(END) :]
        return bool(data) and END not in seen


def streams(
    url: str, path: str, bodies: Sequence[dict[str, Any]], timeout: float = 600
) -> list[Reply]:
    """POST all requests at once; each is answered by server-sent events."""
    parts = urlsplit(url)
    requests = [_request(url, path, body) for body in bodies]
    wires: list[Wire] = []
    try:
        for request in requests:
            wires.append(_open(parts.hostname or "", parts.port or 80, request))
        _receive(wires, time.perf_counter() + timeout)
    finally:
        for wire in wires:
            wire.socket.close()
    return [reply(wire) for wire in wires]


def gets(url: str, path: str, connections: int, seconds: float) -> tuple[int, float]:
    """Send GETs over keep-alive connections, each asked anew once it has answered.

    Returns how many came in how many seconds. Raises OSError, and ValueError for any but a 200.
    """
    parts = urlsplit(url)
    target = f"{parts.path.rstrip('/')}{path}"
    request = f"GET {target} HTTP/1.1\r\nhost: {parts.netloc}\r\n\r\n".encode()
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        for _ in range(connections):
            connection = stack.enter_context(_connect(parts.hostname or "", parts.port or 80))
            ready.register(connection, selectors.EVENT_READ, connection)
            connection.sendall(request)
        answers, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            if not (answered := ready.select(TIMEOUT)):
                raise TimeoutError(f"no answer within {TIMEOUT:.0f} s")
            for key, _ in answered:
                _answer(key.data)
                key.data.sendall(request)
                answers += 1
    return answers, spent


def _answer(connection: socket.socket) -> None:
    """Receive one whole answer with a content-length."""
    data = b""
    while not _complete(data):
        piece = connection.recv(1 << 16)
        if not piece:
            raise ValueError("a connection ended within an answer")
        data += piece
    if data[9:12] != b"200":
        raise ValueError(f"an answer began with {data[:15]!r}")


def _complete(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def _connect(host: str, port: int) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _open(host: str, port: int, request: bytes) -> Wire:
    connection = _connect(host, port)
    began = time.perf_counter()
    connection.sendall(request)
    return Wire(connection, began)


def _receive(wires: Sequence[Wire], deadline: float) -> None:
    with selectors.DefaultSelector() as ready:
        for wire in wires:
            ready.register(wire.socket, selectors.EVENT_READ, wire)
        while ready.get_map():
            arrived = ready.select(deadline - time.perf_counter())
            if not arrived:
                for key in list(ready.get_map().values()):
                    key.data.error = "TimeoutError: no more came"
                return
            for key, _ in arrived:
                if not key.data.receive():
                    ready.unregister(key.fileobj)


def _request(url: str, path: str, body: dict[str, Any]) -> bytes:
    parts = urlsplit(url)
    data = json.dumps(body).encode()
    head = (
        f"POST {parts.path.rstrip('/')}{path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + data


def reply(wire: Wire) -> Reply:
    """Read what arrived; every event has the time of its last byte."""
    answer = Reply(wire.began, error=wire.error)
    answer.ended = wire.times[-1] if wire.times else wire.began
    raw = b"".join(wire.pieces)
    head, _, body = raw.partition(b"\r\n\r\n")
    status_line = head.split(maxsplit=2)
    if len(status_line) < 2 or not status_line[1].isdigit():
        answer.error = answer.error or "ValueError: no answer in HTTP"
        return answer
    answer.status = int(status_line[1])
    stops = list(accumulate(map(len, wire.pieces)))
    chunked = b"transfer-encoding: chunked" in head.lower()
    for start, line in _lines(body, len(raw) - len(body), chunked):
        if line.startswith(b"data: {"):
            moment = wire.times[bisect_left(stops, start + len(line))]
            note(json.loads(line[6:]), answer, moment)
        elif answer.status != 200:
            answer.error += line.decode("utf-8", "replace").strip()
    return answer


def note(event: dict[str, Any], reply: Reply, moment: float) -> None:
    """Add to a reply what an event brought at this moment."""
    if "error" in event:
        reply.error = str(event["error"])
    if usage := event.get("usage"):
        reply.tokens = usage.get("completion_tokens", 0)
        reply.prompt_tokens = usage.get("prompt_tokens", 0)
    for choice in event.get("choices", ()):
        delta = choice.get("delta") or {}
        if choice.get("text") or any(
            delta.get(k) for k in ("content", "reasoning", "reasoning_content")
        ):
            reply.pieces.append(moment)


def _lines(body: bytes, offset: int, chunked: bool) -> list[tuple[int, bytes]]:
    """Return the lines of a body, each with where its last chunk's part lies in the raw bytes."""
    text, places = _unchunked(body, offset) if chunked else (body, [(0, offset)])
    starts = [start for start, _ in places]
    lines, at = [], 0
    for line in text.split(b"\n"):
        start, raw = places[max(bisect_left(starts, at + len(line)) - 1, 0)]
        lines.append((raw + at - start, line))
        at += len(line) + 1
    return lines


def _unchunked(body: bytes, offset: int) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the text, and for each chunk where it begins in the text and in the raw bytes."""
    text, places, at, length = [], [], 0, 0
    while (end := body.find(b"\r\n", at)) > 0:
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            break
        places.append((length, offset + end + 2))
        text.append(body[end + 2 : end + 2 + size])
        length += size
        at = end + 2 + size + 2
    return b"".join(text), places or [(0, offset)]
