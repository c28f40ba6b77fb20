"""A connection's streams: pieces of nothing, ends that are missing, and reasons that are said."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.connection import PROBES
from bessemer.http.message import HttpRequest, Reply, Response, StreamingResponse
from tests.http.wire import GET, POST, Endless, client, run, settle


@pytest.mark.parametrize("error", [ValueError("bug"), Refusal(503, "overloaded", "late")])
def test_a_stream_that_breaks_has_no_end(error: Exception) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"one"
        yield b""  # which would be the end, as a chunk
        raise error

    async def handler(_: HttpRequest) -> Reply:
        return StreamingResponse(chunks())

    async def main() -> None:
        async with client(handler) as c:
            await c.send(GET)
            assert c.wire.data.endswith(b"3\r\none\r\n")
            assert c.wire.closed
            assert c.app.crashes == ([] if isinstance(error, Refusal) else [error])
            assert c.app.done == [("/a", 200, 3)]

    run(main)


@pytest.mark.parametrize("error", [ValueError("bug"), Refusal(503, "overloaded", "late")])
def test_a_stream_that_can_say_why_it_breaks_ends_with_that(error: Exception) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"one"
        raise error

    async def handler(request: HttpRequest) -> Reply:
        if request.method == "POST":
            return Response(200, b"next")
        return StreamingResponse(chunks(), failure=lambda refusal: refusal.code.encode())

    async def main() -> None:
        async with client(handler) as c:
            await c.send(GET + POST)
            (_, _, broken), (_, _, after) = c.answers("GET", "POST")
            bug = isinstance(error, ValueError)
            assert broken == (b"oneinternal_error" if bug else b"oneoverloaded")
            assert after == b"next" and not c.wire.closing
            assert c.app.crashes == ([error] if bug else [])
            assert c.app.done[0] == ("/a", 200, len(broken))

    run(main)


def test_a_stream_that_is_cut_says_so_if_it_can() -> None:
    endless = Endless(10, waits=True)

    async def handler(_: HttpRequest) -> Reply:
        return StreamingResponse(endless.chunks(), failure=lambda refusal: refusal.code.encode())

    async def main() -> None:
        async with client(handler) as c:
            await c.send(GET)
            c.connection.cut()
            await settle()
            ((_, _, body),) = c.answers("GET")
            assert body == b"x" * 10 + b"shutting_down" and c.wire.closed and endless.cleaned

    run(main)


def test_a_stream_that_cannot_even_say_why_has_no_end() -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"one"
        raise ValueError("first")

    def failure(_: Refusal) -> bytes:
        raise KeyError("second")

    async def handler(_: HttpRequest) -> Reply:
        return StreamingResponse(chunks(), failure=failure)

    async def main() -> None:
        async with client(handler) as c:
            await c.send(GET)
            assert c.wire.data.endswith(b"3\r\none\r\n") and c.wire.closed
            assert [type(crash) for crash in c.app.crashes] == [ValueError, KeyError]

    run(main)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_half_closed_client_of_a_silent_stream_is_probed_by_zeros_of_a_size(
    version: bytes,
) -> None:
    """A client that is gone answers one with a reset, whatever its stream waits for."""
    gate = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"one "
        await gate.wait()
        yield b"two"

    async def handler(_: HttpRequest) -> Reply:
        return StreamingResponse(chunks())

    async def main() -> None:
        async with client(handler) as c:
            await c.send(GET.replace(b"1.1", version))
            before = c.wire.data
            await c.end()
            zeros = 0 if version == b"1.0" else 1
            assert c.wire.data == before + b"0" * zeros
            for count, seconds in enumerate(PROBES, start=1):
                assert c.wire.data == before + b"0" * zeros * count
                await c.later(seconds + 0.1)
            await c.later(10_000)
            assert c.wire.data == before + b"0" * zeros * len(PROBES)
            gate.set()
            await settle()
            assert c.answers()[0][2] == b"one two" and c.wire.closed

    run(main)


def test_a_client_that_left_ends_a_silent_stream() -> None:
    ended: list[str] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    async def handler(_: HttpRequest) -> Reply:
        return StreamingResponse(chunks())

    async def main() -> None:
        async with client(handler) as c:
            await c.send(GET)
            await c.end()
            c.wire.abort()  # as the probe is answered
            await settle()
            assert ended == ["closed"]

    run(main)
