"""A lean HTTP/1.1 client for measuring, which looks at the clock at every piece of an answer."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


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


async def stream(url: str, path: str, body: dict[str, Any], timeout: float = 600) -> Reply:
    """POST a request whose answer is streamed as server-sent events."""
    reply = Reply(time.perf_counter())
    try:
        async with asyncio.timeout(timeout):
            await _stream(url, path, body, reply)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
        reply.error = f"{type(error).__name__}: {error}"
    reply.ended = time.perf_counter()
    return reply


async def _stream(url: str, path: str, body: dict[str, Any], reply: Reply) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=1 << 22)
    try:
        data = json.dumps(body).encode()
        head = (
            f"POST {parts.path.rstrip('/')}{path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n"
            "connection: close\r\n\r\n"
        )
        writer.write(head.encode() + data)
        reply.status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        async for line in reader:
            if line.startswith(b"data: {"):
                note(json.loads(line[6:]), reply, time.perf_counter())
            elif line.startswith(b"data: [DONE]"):
                break
            elif reply.status != 200:
                reply.error += line.decode("utf-8", "replace").strip()
    finally:
        writer.close()


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


async def hammer(url: str, path: str, connections: int, seconds: float) -> tuple[int, int]:
    """GET as often as possible over keep-alive connections; return (answers, errors)."""
    counts = await asyncio.gather(
        *(_hammer(url, path, time.perf_counter() + seconds) for _ in range(connections))
    )
    return sum(ok for ok, _ in counts), sum(bad for _, bad in counts)


async def _hammer(url: str, path: str, end: float) -> tuple[int, int]:
    parts = urlsplit(url)
    request = f"GET {parts.path.rstrip('/')}{path} HTTP/1.1\r\nhost: {parts.netloc}\r\n\r\n"
    ok = bad = 0
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    while time.perf_counter() < end:
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(v) for k, _, v in (h.partition(b":") for h in head.lower().split(b"\r\n"))
             if k == b"content-length"), 0,
        )  # fmt: skip
        await reader.readexactly(length)
        ok, bad = (ok + 1, bad) if head[9:12] == b"200" else (ok, bad + 1)
    writer.close()
    return ok, bad
