"""One connection to a provider: what it reads ahead, waits for, and ends with."""

import asyncio
import socket
import threading
from contextlib import closing

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.gateway.client import HttpClient
from tests.http.gateway.fake import Asked, Wire, provider
from tests.http.gateway.test_client import fetch, run


def test_pieces_are_given_out_as_they_come_and_silence_is_told() -> None:
    go_on = threading.Event()

    def script(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b"first")
        assert go_on.wait(20)
        wire.chunk(b"second")
        wire.end()

    async def work(client: HttpClient) -> list[bytes | None]:
        with closing(await client.ask("POST", "/", ())) as exchange:
            seen = [await exchange.piece(), await exchange.piece(beat=0.01)]
            go_on.set()
            return [*seen, await exchange.piece(), await exchange.piece(), await exchange.piece()]

    with provider(script) as fake:
        assert run(work, fake.url) == [b"first", None, b"second", b"", b""]


def test_what_comes_unasked_closes_a_connection() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(asked.body)
        if asked.body == b"1":
            threading.Timer(0.02, lambda: wire.send(b"HTTP/1.1 200 OK\r\n\r\nsmuggled")).start()

    async def work(client: HttpClient) -> bytes:
        await fetch(client, b"1")
        while client._idle:
            await asyncio.sleep(0.001)
        return await fetch(client, b"2")

    with provider(script) as fake:
        assert run(work, fake.url) == b"2"


def test_exchanges_are_ended_with_a_refusal() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b"x")
        wire.closed()

    async def work(client: HttpClient) -> None:
        exchange = await client.ask("POST", "/", ())
        assert await exchange.piece() == b"x"
        reading = asyncio.ensure_future(exchange.piece())
        await asyncio.sleep(0)
        client.interrupt(Refusal(503, "shutting_down", "Good night."))
        with pytest.raises(Refusal, match="Good night"):
            await reading

    with provider(script) as fake:
        run(work, fake.url)


def test_little_is_read_ahead() -> None:
    sent = 0

    def script(asked: Asked, wire: Wire) -> None:
        nonlocal sent
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        wire.begin()
        wire.socket.settimeout(0.2)
        for _ in range(2**9):
            try:
                wire.chunk(bytes(2**16))
            except TimeoutError:
                return
            sent += 2**16

    async def work(client: HttpClient) -> None:
        exchange = await client.ask("POST", "/", ())
        while sent == 0 or (before := sent) is None:
            await asyncio.sleep(0.01)
        for _ in range(100):
            before = sent
            await asyncio.sleep(0.05)
            if sent == before:
                break
        exchange.close()

    with provider(script) as fake:
        run(work, fake.url)
    assert sent < 2**24
