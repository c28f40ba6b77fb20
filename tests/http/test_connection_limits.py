"""A connection's patience: sizes, times, slow readers, and stopping."""

import asyncio
import json

import pytest

from bessemer.http.connection import LINGER, READ_AHEAD, SETTLED
from bessemer.http.limits import ConnectionLimits
from bessemer.http.message import HttpRequest, Reply, Response
from tests.http.wire import CHUNKED, GET, POST, Client, Echo, Endless, client, run, settle

# ConnectionLimits.


def test_a_declared_length_is_refused_before_the_body() -> None:
    async def main() -> None:
        async with client(body=4) as c:
            head, _, body = POST.partition(b"\r\n\r\n")
            await c.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
            [(status, headers, text)] = c.answers()
            assert (status, headers["connection"]) == (413, "close")
            assert json.loads(text) == {"code": "request_too_large"}
            assert c.app.requests == [] and c.app.done == [("/echo", 413, len(text))]
            assert c.wire.ended and not c.wire.closed  # lingers: the client may still be sending
            await c.send(body)
            await c.end()
            assert c.wire.closed

    run(main)


def test_a_chunked_body_is_refused_as_it_grows() -> None:
    async def main() -> None:
        async with client(body=10) as c:
            await c.send(CHUNKED.partition(b" world")[0])
            assert c.wire.data == b""
            await c.send(b" world")
            assert c.answers()[0][0] == 413
            await c.later(LINGER[0] - 0.5)
            assert not c.wire.closed
            await c.later(1)
            assert c.wire.aborted

    run(main)


def test_a_refused_client_may_send_its_body_before_it_reads_but_not_forever() -> None:
    async def main() -> None:
        pause, whole = LINGER
        async with client(body=10) as c:
            await c.send(CHUNKED)
            assert c.answers()[0][0] == 413
            for _ in range(int(whole / pause)):
                assert not c.wire.closed
                await c.later(pause - 0.05)
                await c.send(b"more")
            await c.later(1)  # less than a pause
            assert c.wire.aborted

    run(main)


@pytest.mark.parametrize("reads", [True, False])
def test_the_last_answer_is_not_reset_by_what_was_sent_behind_it(reads: bool) -> None:
    async def main() -> None:
        last = GET.replace(b"Host", b"Connection: close\r\nHost")
        async with client() as c:
            c.wire.reading = reads
            await c.send(last + GET)
            assert c.wire.ended and not c.wire.closing  # closing would reset the connection
            assert len(c.answers()) == 1
            await c.later(LINGER[0] + 0.1)
            assert c.wire.aborted
        async with client() as c:
            await c.send(last + GET)
            await c.end()
            assert c.wire.closed and not c.wire.aborted
            assert len(c.answers()) == 1
        async with client() as c:
            c.connection.data_received(last + GET)
            await c.end()  # before it is answered
            assert c.wire.closed and not c.wire.aborted
            assert len(c.answers()) == 1

    run(main)


def test_a_slow_reader_of_the_last_answer_may_take_its_time() -> None:
    async def handler(_: HttpRequest) -> Reply:
        return Response(200, b"x" * 60_000)

    async def main() -> None:
        async with client(handler) as c:
            c.wire.reading = False
            await c.send(GET.replace(b"1.1", b"1.0") + GET)
            assert c.wire.ended
            c.wire.take(1000)
            await c.later(LINGER[0] + 0.1)
            assert not c.wire.aborted
            c.wire.take(1000)
            await c.later(59)
            assert not c.wire.aborted
            await c.later(2)  # something was taken
            assert not c.wire.aborted
            await c.later(61)
            assert c.wire.aborted

    run(main)


def test_a_body_of_exactly_the_limit_passes() -> None:
    async def main() -> None:
        async with client(body=5) as c:
            await c.send(POST)
            assert c.answers()[0][0] == 200

    run(main)


def test_a_header_of_many_lines_is_refused_wherever_it_begins() -> None:
    async def main() -> None:
        many = GET.replace(b"\r\n\r\n", b"\r\n" + b"a:\n" * 5000 + b"\r\n")
        body = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"\n" * 5000
        for before, size in ((b"", None), (b"", 7), (GET, None), (body, None)):
            async with client() as c:
                await c.send(before + many, size)
                assert [answer[0] for answer in c.answers()] == [200] * bool(before) + [431]

    run(main)


def test_a_slow_header_is_refused_however_it_trickles() -> None:
    async def main() -> None:
        async with client(header=10) as c:
            await c.send(GET[:5])
            await c.later(6)
            await c.send(GET[5:9])
            assert c.wire.data == b""
            await c.later(6)
            assert c.answers()[0][0] == 408
            assert c.wire.ended

    run(main)


def test_a_slow_body_is_refused_after_a_pause() -> None:
    async def main() -> None:
        async with client(pause=30, whole=1000) as c:
            await c.send(POST[:-3])
            for byte in (b"l", b"l"):
                await c.later(20)
                await c.send(byte)
            assert c.wire.data == b""
            await c.later(31)
            assert c.answers()[0][0] == 408

    run(main)


def test_idle_connections_are_closed_silently() -> None:
    async def main() -> None:
        async with client(header=10, keep_alive=75) as c:
            await c.send(GET)
            c.wire.writes.clear()
            await c.later(70)
            assert not c.wire.closing
            await c.send(GET)
            await c.later(70)
            assert not c.wire.closing
            await c.later(6)
            assert c.wire.closed and len(c.answers()) == 1
        async with client(header=10) as c:
            await c.later(11)
            assert c.wire.closed and c.wire.data == b""

    run(main)


def test_one_connection_too_many_takes_the_place_of_the_one_that_was_idle_longest() -> None:
    async def main() -> None:
        limits = ConnectionLimits(connections=3)
        async with client() as first:
            others = [Client(Echo(), limits, first.open) for _ in range(2)]
            await first.later(SETTLED + 0.1)
            await first.send(GET)  # which makes it the newest
            late = Client(Echo(), limits, first.open)
            assert sum(each.wire.closed for each in others) == 1 and not first.wire.closed
            await settle()
            later = Client(Echo(), limits, first.open)
            assert all(each.wire.closed for each in others) and not first.wire.closed
            await settle()
            refused = Client(Echo(), limits, first.open)  # none has been idle for long
            assert refused.answers()[0][0] == 503
            assert refused.answers()[0][1]["connection"] == "close"
            for each in (late, later, refused):
                each.wire.abort()

    run(main)


def test_pipelined_requests_are_not_hoarded() -> None:
    gate = asyncio.Event()

    async def handler(_: HttpRequest) -> Reply:
        await gate.wait()
        return Response(200, b"")

    async def main() -> None:
        async with client(handler) as c:
            count = READ_AHEAD // len(GET) + 10
            await c.send(GET * count)
            assert not c.wire.paused  # one piece is kept, however large
            await c.send(GET * count)
            assert c.wire.paused
            gate.set()
            while c.wire.paused:
                await settle()
            for _ in range(2 * count):
                await settle()
            assert len(c.app.done) == 2 * count

    run(main)


def test_nothing_is_produced_for_a_client_that_does_not_read() -> None:
    async def main() -> None:
        endless = Endless(10_000, waits=False)
        async with client(endless.handler, stall=60) as c:
            c.wire.reading = False
            await c.send(GET)
            assert endless.produced == 7
            c.wire.take(10_000)
            await settle()
            assert endless.produced == 8
            for _ in range(5):  # slow, but it reads
                await c.later(59)
                c.wire.take(100)
                await c.later(2)
            assert not c.wire.closing and not endless.cleaned
            await c.later(61)
            await c.later(61)
            assert c.wire.aborted and endless.cleaned

    run(main)


def test_a_slow_handler_is_the_application_s_business() -> None:
    gate = asyncio.Event()

    async def handler(_: HttpRequest) -> Reply:
        await gate.wait()
        return Response(200, b"done")

    async def main() -> None:
        async with client(handler) as c:
            await c.send(POST, 1)
            await c.later(1000)
            assert c.wire.data == b""
            gate.set()
            await settle()
            assert c.answers()[0][2] == b"done"

    run(main)


def test_a_reader_that_catches_up_is_left_alone() -> None:
    async def main() -> None:
        endless = Endless(100_000, waits=True)
        async with client(endless.handler, stall=60) as c:
            c.wire.reading = False
            await c.send(GET)
            await c.later(50)
            c.wire.take(100_000)
            await c.later(1000)
            assert not c.wire.closing and not c.wire.ended and not endless.cleaned

    run(main)


def test_an_exchange_is_over_when_its_iterator_is_closed() -> None:
    seen: list[bool] = []

    async def main() -> None:
        endless = Endless(100_000, waits=False)
        async with client(endless.handler, stall=60) as c:
            c.app.done = Noted(seen, endless)
            c.wire.reading = False
            await c.send(GET)
            c.wire.abort()
            await settle()
        assert seen == [True]

    run(main)


class Noted(list[tuple[str, int, int]]):
    """A list that notes, whenever it grows, whether a stream has been cleaned up."""

    def __init__(self, seen: list[bool], endless: Endless) -> None:
        super().__init__()
        self.seen, self.endless = seen, endless

    def append(self, item: tuple[str, int, int]) -> None:
        self.seen.append(self.endless.cleaned)


def test_a_large_answer_holds_the_next_request_back() -> None:
    async def handler(_: HttpRequest) -> Reply:
        return Response(200, b"x" * 100_000)

    async def main() -> None:
        async with client(handler) as c:
            c.wire.reading = False
            await c.send(GET + GET)
            assert len(c.wire.writes) == 1
            c.wire.take(60_000)
            await settle()
            assert len(c.wire.writes) == 2
            await c.later(61)
            assert c.wire.aborted

    run(main)


def test_closing_does_not_wait_forever_for_a_reader() -> None:
    async def main() -> None:
        async with client(stall=60) as c:
            c.wire.reading = False
            await c.send(b"GET /a HTTP/1.0\r\n\r\n")
            assert c.wire.closing and not c.wire.closed
            await c.later(61)
            assert c.wire.aborted

    run(main)


# Stopping.


def test_stop_closes_what_is_idle() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(GET)
            c.connection.stop()
            assert c.wire.closed

    run(main)


def test_stop_lets_an_exchange_end() -> None:
    gate = asyncio.Event()

    async def handler(_: HttpRequest) -> Reply:
        await gate.wait()
        return Response(200, b"done")

    async def main() -> None:
        for first, rest in ((POST, b""), (POST[:9], POST[9:]), (POST[:-2], POST[-2:])):
            gate.clear()
            async with client(handler) as c:
                await c.send(first)
                c.connection.stop()
                await c.send(rest)
                assert not c.wire.closing
                gate.set()
                await settle()
                [(status, headers, body)] = c.answers()
                assert (status, headers["connection"], body) == (200, "close", b"done")
                assert c.wire.closed

    run(main)


def test_cut_tells_who_waits_and_closes_iterators() -> None:
    async def wait(_: HttpRequest) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        async with client(wait) as c:
            await c.send(GET)
            c.connection.cut()
            await settle()
            [(status, headers, body)] = c.answers()
            assert (status, headers["connection"]) == (503, "close")
            assert json.loads(body) == {"code": "shutting_down"}
        endless = Endless(5, waits=True)
        async with client(endless.handler) as c:
            await c.send(GET)
            c.connection.cut()
            await settle()
            assert endless.cleaned and c.wire.closed
            assert not c.wire.data.endswith(b"0\r\n\r\n")

    run(main)
