"""The reading of all connections: what one turn takes, and who comes next."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

from bessemer.http.body import BodyBudget
from bessemer.http.connection import Connection
from bessemer.http.limits import ConnectionLimits
from bessemer.http.read_queue import EVENTS, PIECE, SHARE, ReadQueue
from tests.http.wire import GET, Echo, Wire, run, settle

CHUNKS = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 2000


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def within(clients: int, main: Callable[[list[Wire], Echo], Awaitable[None]]) -> None:
    """Run `main` with connections that share a queue, and end them."""

    async def together() -> None:
        app, open_, queue = Echo(), set[Connection](), ReadQueue()
        budget, limits = BodyBudget(), ConnectionLimits()
        wires = [Wire(Connection(app, limits, open_, budget, queue)) for _ in range(clients)]
        for wire in wires:
            wire.protocol.connection_made(wire)
        await main(wires, app)
        for wire in wires:
            wire.abort()
        await settle()

    run(together)


def test_a_turn_takes_so_many_events_and_the_next_as_many() -> None:
    async def main() -> None:
        queue = ReadQueue()
        for _ in range(2):
            assert [queue.allows() for _ in range(EVENTS + 2)] == [True] * EVENTS + [False] * 2
            await turns(1)
        assert len([*queue.share()]) == SHARE

    asyncio.run(main())


def test_who_waits_reads_in_turn_and_beyond_a_turn_in_the_next() -> None:
    async def main() -> None:
        queue, order, calls = ReadQueue(), list[str](), count()

        def reading(name: str) -> Callable[[], None]:
            def read() -> None:
                order.extend(name for _ in queue.share())
                if next(calls) < 4 * EVENTS:
                    queue.wait(read)

            return read

        while queue.allows():
            pass
        for name in "abc":
            queue.wait(reading(name))
        assert order == []
        await turns(1)
        assert "".join(order) == "".join(n * SHARE for n in ("abc" * EVENTS)[: EVENTS // SHARE])
        await turns(1)
        assert len(order) == 2 * EVENTS

    asyncio.run(main())


def test_all_clients_together_are_read_so_much_of_in_a_turn() -> None:
    async def main(wires: list[Wire], app: Echo) -> None:
        for wire in wires:
            wire.protocol.data_received(CHUNKS)
        before = 0
        for _ in range(20):
            read = sum(len(request.body) for request in app.admitted)
            assert read - before <= EVENTS
            before = read
            await turns(1)
        sizes = [len(request.body) for request in app.admitted]
        assert len(sizes) == len(wires)
        assert max(sizes) - min(sizes) <= 2 * SHARE
        assert before > 10 * EVENTS

    within(40, main)


def test_a_small_request_is_answered_beside_many_large_ones() -> None:
    async def main(wires: list[Wire], app: Echo) -> None:
        *floods, other = wires
        for wire in floods:
            wire.protocol.data_received(CHUNKS)
        other.protocol.data_received(GET)
        await turns(3 + len(wires) * SHARE // EVENTS)
        assert other.data.startswith(b"HTTP/1.1 200 ")
        assert [request.path for request in app.requests] == ["/a"]

    within(40, main)


def test_what_a_refused_client_still_sends_is_read_in_turn() -> None:
    async def main(wires: list[Wire], app: Echo) -> None:
        (wire,) = wires
        wire.protocol.data_received(b"nonsense\r\n\r\n")
        assert wire.ended and not wire.paused
        await turns(1)
        sent = 0
        while not wire.paused and sent < 2 * EVENTS:
            wire.protocol.data_received(bytes(PIECE))
            sent += 1
        assert sent == EVENTS + 1
        await turns(1)
        assert not wire.paused

    within(1, main)


def test_a_socket_is_read_into_one_buffer() -> None:
    async def main(wires: list[Wire], app: Echo) -> None:
        for wire in wires:
            buffer = wire.protocol.get_buffer(-1)
            buffer[: len(GET)] = GET
            wire.protocol.buffer_updated(len(GET))
        await settle()
        assert all(wire.data.endswith(b"\r\n/a ") for wire in wires)
        assert len(app.requests) == 2

    within(2, main)
