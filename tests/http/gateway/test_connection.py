"""One connection to a provider: what it reads ahead, waits for, and ends with."""

import asyncio
import socket
import ssl
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.gateway.client import HttpClient
from tests.http.gateway.fake import Asked, Wire, provider
from tests.http.gateway.test_client import certificate, fetch, run, settings

__all__ = ["certificate"]  # a fixture


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


def test_a_provider_is_reached_through_a_proxy(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel through HTTPS_PROXY, but for what NO_PROXY names; the proxy sees no key."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    seen: list[str] = []

    def far(asked: Asked, wire: Wire) -> None:
        wire.answer(b"secret")

    def tunnel(asked: Asked, wire: Wire) -> None:
        seen.extend(asked.lines)
        if asked.target != f"localhost:{target.port}":
            wire.answer(b"", "403 Forbidden")
            return
        wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", target.port)) as other:
            back = threading.Thread(target=pump, args=(other, wire.socket))
            back.start()
            pump(wire.socket, other)
            back.join()

    async def ask(url: str) -> bytes:
        client = HttpClient(settings(url), trusting)
        try:
            return await fetch(client)
        finally:
            await client.aclose()

    with provider(far, serving) as target, provider(tunnel) as proxy:
        url = f"https://localhost:{target.port}"
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        assert asyncio.run(ask(url)) == b"secret"
        assert [each.method for each in proxy.asked] == ["CONNECT"]
        assert seen == [f"host: localhost:{target.port}"]
        with pytest.raises(Refusal, match="the proxy answered 403"):
            asyncio.run(ask("https://elsewhere.example"))
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert asyncio.run(ask(url)) == b"secret" and len(proxy.asked) == 2


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until there are no more."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
