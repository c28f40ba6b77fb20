"""A connection's exchanges: reading, answering, what clients and handlers do wrong."""

import asyncio
import json
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.engine.request import Refusal
from bessemer.http.connection import PROBES, READ_AHEAD, STATUS
from bessemer.http.message import HttpRequest, Reply, Response, StreamingResponse
from tests.http.wire import CHUNKED, GET, HEAD, POST, Endless, client, parse, run, settle


def test_an_answer_is_one_write_with_length_and_id() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(GET)
            assert len(c.wire.writes) == 1
            [(status, headers, body)] = c.answers()
            assert (status, body) == (200, b"/a ")
            assert headers["content-length"] == "3"
            assert re.fullmatch(r"req_[0-9a-f]{24}", headers["x-request-id"])
            assert headers["request-id"] == headers["x-request-id"] == c.app.requests[0].id
            assert c.wire.data.startswith(b"HTTP/1.1 200 OK\r\n")
            assert c.app.done == [("/a", 200, 3)]
            assert c.app.requests[0].query == "b=c"
            assert c.app.requests[0].client == "192.0.2.7"
            assert c.app.requests[0].header(b"host") == b"x"
            assert not c.wire.closing

    run(main)


@pytest.mark.parametrize("size", [1, 2, 7, 64, None])
def test_splits_do_not_matter(size: int | None) -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(GET + POST + CHUNKED + HEAD + POST, size)
            for _ in range(4):
                await settle()
            bodies = [b for _, _, b in c.answers("GET", "POST", "POST", "HEAD", "POST")]
            assert bodies == [b"/a ", b"/echo hello", b"/echo hello world", b"", b"/echo hello"]

    run(main)


def test_head_has_the_headers_of_get() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(HEAD + GET.replace(b"?b=c", b""))
            (_, head, nothing), (_, get, body) = c.answers("HEAD", "GET")
            assert nothing == b"" and body == b"/a "
            assert head["content-length"] == get["content-length"] == "3"
            assert c.app.done[0] == ("/a", 200, 0)

    run(main)


def test_head_of_a_stream_starts_no_iterator() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(HEAD.replace(b"/a", b"/stream") + GET)
            (_, headers, nothing), (_, _, body) = c.answers("HEAD", "GET")
            assert headers["transfer-encoding"] == "chunked"
            assert nothing == b"" and body == b"/a "

    run(main)


def test_streams_are_chunked() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            [(status, headers, body)] = c.answers()
            assert (status, body) == (200, b"0\n1\n2\n")
            assert headers["transfer-encoding"] == "chunked"
            assert headers["content-type"] == "text/event-stream"
            assert len(c.wire.writes) == 5  # head, three chunks as they come, end
            assert c.app.done == [("/stream", 200, 6)]

    run(main)


def test_http_1_0_gets_no_chunks_and_is_closed() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(b"GET /stream HTTP/1.0\r\n\r\n")
            [(_, headers, body)] = c.answers()
            assert body == b"0\n1\n2\n"
            assert "transfer-encoding" not in headers
            assert c.wire.closed

    run(main)


def test_connection_close_is_honoured() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert c.answers()[0][1]["connection"] == "close"
            assert c.wire.closed and not c.wire.aborted

    run(main)


def test_expect_continue() -> None:
    async def main() -> None:
        async with client() as c:
            head, _, body = POST.partition(b"\r\n\r\n")
            await c.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert c.wire.data == b"HTTP/1.1 100 Continue\r\n\r\n"
            c.wire.writes.clear()
            await c.send(body)
            assert c.answers()[0][2] == b"/echo hello"

    run(main)


def test_no_length_in_a_204() -> None:
    async def handler(_: HttpRequest) -> Reply:
        return Response(204, b"", ())

    async def main() -> None:
        async with client(handler) as c:
            await c.send(GET + GET)
            assert [(status, body) for status, _, body in c.answers()] == [(204, b"")] * 2
            assert b"content-length" not in c.wire.data

    run(main)


def test_an_upgrade_is_ignored() -> None:
    async def main() -> None:
        async with client() as c:
            upgrade = b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            await c.send(GET.replace(b"\r\n\r\n", upgrade) + GET)
            assert [status for status, _, _ in c.answers()] == [200, 200]

    run(main)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # TLS to a plain port
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (CHUNKED.replace(b"Host: x", b"Host: x\r\nContent-Length: 5"), 400),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (CHUNKED.replace(b": chunked", b": gzip, chunked"), 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70000, 431),
    ],
)
def test_malformed_requests(data: bytes, status: int) -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(data)
            [(got, headers, body)] = c.answers()
            assert (got, headers["connection"]) == (status, "close")
            assert json.loads(body) == {"code": "bad_request"}
            await c.end()
            assert c.wire.closed

    run(main)


def test_malformed_after_a_good_one() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(GET + b"nonsense\r\n\r\n" + GET)
            assert [status for status, _, _ in c.answers()] == [200, 400]

    run(main)


@pytest.mark.parametrize("size", [1, None])
def test_empty_lines_before_a_request_are_passed_over(size: int | None) -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(b"\r\n\r\n" + POST + b"\r\n" + GET + b"\r\n" * 9000 + GET, size)
            assert [status for status, _, _ in c.answers()] == [200, 200, 200]

    run(main)


def test_what_is_malformed_is_named_without_being_repeated() -> None:
    async def main() -> None:
        said: list[str] = []

        def refuse(_: HttpRequest, refusal: Refusal) -> Response:
            said.append(refusal.message)
            return Response(refusal.status, b"")

        async with client() as c:
            c.app.refuse = refuse  # type: ignore[method-assign]
            await c.send(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : secret\r\n\r\n")
        assert said == ["Malformed HTTP: illegal header line."]

    run(main)


# What goes wrong.


def test_refusals_and_bugs() -> None:
    async def handler(request: HttpRequest) -> Reply:
        if request.path == "/refused":
            raise Refusal(404, "model_not_found", "none")
        if request.path == "/bug":
            raise KeyError("secret")
        return Response(200, b"", ((b"bad header", b"x"),))

    async def main() -> None:
        async with client(handler) as c:
            for path in (b"/refused", b"/bug", b"/header"):
                await c.send(GET.replace(b"/a", path))
            answers = [(status, json.loads(body)["code"]) for status, _, body in c.answers()]
            assert answers == [
                (404, "model_not_found"), (500, "internal_error"), (500, "internal_error")
            ]  # fmt: skip
            assert isinstance(c.app.crashes[0], KeyError) and len(c.app.crashes) == 2
            assert b"secret" not in c.wire.data
            assert not c.wire.closing

    run(main)


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


def test_a_client_that_leaves_ends_the_stream() -> None:
    async def main() -> None:
        endless = Endless(10, waits=True)
        async with client(endless.handler) as c:
            await c.send(GET)
            assert endless.produced == 1 and not endless.cleaned
            c.wire.abort()
            await settle()
            assert endless.cleaned and c.app.done == [("/a", 200, 10)]

    run(main)


def waiting(gate: asyncio.Event, seen: list[str]) -> Callable[[HttpRequest], Awaitable[Reply]]:
    """Return a handler that answers once the gate is open, and notes that it was cancelled."""

    async def handler(_: HttpRequest) -> Reply:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return Response(200, b"done")

    return handler


def test_a_client_that_leaves_before_the_answer_ends_the_handler() -> None:
    async def main() -> None:
        seen: list[str] = []
        async with client(waiting(asyncio.Event(), seen)) as c:
            await c.send(GET)
            c.wire.abort()
            await settle()
            assert seen == ["cancelled"] and c.wire.data == b""
            assert c.app.done == [("/a", 499, 0)]

    run(main)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_half_closed_client_is_probed_by_the_bytes_that_begin_its_answer(version: bytes) -> None:
    async def main() -> None:
        gate, seen = asyncio.Event(), list[str]()
        async with client(waiting(gate, seen)) as c:
            await c.send(GET.replace(b"1.1", version))
            assert c.wire.data == b""
            await c.end()
            assert c.wire.data == b"H"  # a client that is gone answers this with a reset
            for count, seconds in enumerate(PROBES, start=1):
                await c.later(seconds - 0.1)
                assert c.wire.data == STATUS[:count]
                await c.later(0.2)
            await c.later(10_000)
            assert c.wire.data == STATUS and not c.wire.closing
            gate.set()
            await settle()
            assert [body for _, _, body in c.answers()] == [b"done"]
            assert seen == [] and c.wire.closed and not c.wire.aborted

    run(main)


@pytest.mark.parametrize("rest", [GET, POST[:-1], b"nonsense\r\n\r\n"])
def test_what_follows_a_probed_answer_is_whole_too(rest: bytes) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with client(waiting(gate, [])) as c:
            await c.send(GET + rest)
            await c.end()
            await c.later(0.45)
            gate.set()
            await settle()
            statuses = [status for status, _, _ in c.answers()]
            assert statuses == [200, 200 if rest == GET else 400]

    run(main)


def test_a_client_that_sent_too_much_ahead_is_probed_as_its_leaving_cannot_be_read() -> None:
    async def main() -> None:
        gate, seen = asyncio.Event(), list[str]()
        async with client(waiting(gate, seen)) as c:
            await c.send(GET)
            await c.send(GET * (2 * READ_AHEAD // len(GET)))
            assert c.wire.paused and c.wire.data == b"H"
            await c.later(0.45)
            assert c.wire.data == b"HT"
            gate.set()
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, gate.clear)
            await settle()
            answer, probe = c.wire.writes[2:4]
            assert answer.endswith(b"done") and probe == b"H"

    run(main)


def test_a_half_closed_client_gets_its_whole_stream() -> None:
    gate = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"one "
        await gate.wait()
        yield b"two"

    async def handler(_: HttpRequest) -> Reply:
        return StreamingResponse(chunks())

    async def main() -> None:
        async with client(handler) as c:
            await c.send(GET)
            await c.end()
            await c.later(10)
            assert c.wire.data.startswith(STATUS + b"200")
            gate.set()
            await settle()
            assert c.answers()[0][2] == b"one two" and c.wire.closed

    run(main)


@pytest.mark.parametrize("data", [GET[:9], POST[:-2], CHUNKED[:-9], GET + GET[:9]])
def test_a_request_that_ends_too_early_is_told_so(data: bytes) -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(data)
            await c.end()
            status, _, body = c.answers()[-1]
            assert (status, json.loads(body)) == (400, {"code": "bad_request"})
            assert c.wire.closed and not c.wire.aborted

    run(main)


# Admission.


# Anything at all.


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(
        b"".join(draw(st.lists(st.sampled_from([GET, POST, CHUNKED, HEAD]), min_size=1)))
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 6))] = draw(st.binary(max_size=6))
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), mutated()), st.integers(0, 2**32))
def test_any_bytes_are_answered_or_end_the_connection(data: bytes, seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        async with client(body=64) as c:
            start = 0
            while start < len(data):
                size = dice.choice((1, 3, 40, 400))
                await c.send(data[start : start + size])
                start += size
            assert c.app.crashes == []
            for _ in range(3):
                await c.later(1000)
            assert c.wire.closed
            methods = [request.method for request in c.app.requests]
            for status, _, _ in parse(
                c.wire.data.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), *methods
            ):
                assert status in {200, 400, 408, 413, 431, 501}

    run(main)
