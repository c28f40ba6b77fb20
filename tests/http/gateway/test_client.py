"""The client against real sockets: connections kept, lost, stale, slow, cut and abandoned."""

import asyncio
import gzip
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from bessemer.engine.request import Refusal
from bessemer.http.gateway.client import HttpClient, Inflater
from bessemer.http.gateway.provider import Provider
from tests.http.gateway.fake import Asked, Fake, Script, Wire, provider

Result = TypeVar("Result")
PLAIN = ((b"content-type", b"application/json"),)
LOOPS: list[Any] = [asyncio.new_event_loop, uvloop.new_event_loop]


def settings(url: str, **changes: Any) -> Provider:
    about: dict[str, Any] = {"connect_timeout": 20.0, "first_byte_timeout": 20.0}
    about |= {"idle_timeout": 20.0} | changes
    return Provider(name="far", url=url, **about)


def run(work: Callable[[HttpClient], Awaitable[Result]], url: str, **changes: Any) -> Result:
    async def whole() -> Result:
        client = HttpClient(settings(url, **changes))
        try:
            async with asyncio.timeout(30):
                return await work(client)
        finally:
            await client.aclose()

    return uvloop.run(whole())


async def fetch(client: HttpClient, body: bytes = b"{}") -> bytes:
    exchange = await client.ask("POST", "/v1/x", PLAIN, body)
    with closing(exchange):
        return await exchange.read(2**20)


def refused(script: Script, **changes: Any) -> tuple[Refusal, Fake]:
    """Return how one request to a provider is refused."""
    with provider(script) as fake, pytest.raises(Refusal) as caught:
        run(fetch, fake.url, **changes)
    return caught.value, fake


def test_one_connection_takes_many_requests() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(asked.body * 2)

    async def work(client: HttpClient) -> list[bytes]:
        return [await fetch(client, b"%d" % at) for at in range(5)]

    with provider(script) as fake:
        assert run(work, fake.url) == [b"00", b"11", b"22", b"33", b"44"]
        assert fake.connections == 1 and [each.body for each in fake.asked] == [
            *b"0 1 2 3 4".split()
        ]
        head = fake.asked[0].headers
        assert head["host"] == f"127.0.0.1:{fake.port}" and head["content-length"] == "1"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_body_comes_in_pieces_whole_in_chunks_or_until_the_end(loop: Any) -> None:
    """An informational head before it is nobody's answer."""

    def script(asked: Asked, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        if asked.body == b"chunks":
            wire.begin()
            for piece in (b"a", b"bc", b"def"):
                wire.chunk(piece)
            wire.send(b"0\r\ntrailer: t\r\n\r\n")
        elif asked.body == b"end":
            wire.send(b"HTTP/1.1 200 OK\r\n\r\nabcdef")
            wire.close()
        else:
            wire.answer(b"abcdef")

    async def work() -> None:
        client = HttpClient(settings(fake.url))
        for body in (b"chunks", b"whole", b"end", b"whole"):
            assert await fetch(client, body) == b"abcdef"
        await client.aclose()

    with provider(script) as fake, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work())
        assert fake.connections == 2


def test_a_stale_connection_is_replaced_once() -> None:
    """A provider closes what waits too long, just as it is asked again: nothing came of it."""

    def script(asked: Asked, wire: Wire) -> None:
        if asked.body == b"2" and asked.connection == 1:
            wire.close()
        else:
            wire.answer(asked.body)

    async def work(client: HttpClient) -> list[bytes]:
        return [await fetch(client, body) for body in (b"1", b"2", b"3")]

    with provider(script) as fake:
        assert run(work, fake.url) == [b"1", b"2", b"3"]
        assert [(each.body, each.connection) for each in fake.asked] == [
            (b"1", 1),
            (b"2", 1),
            (b"2", 2),
            (b"3", 2),
        ]


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_what_began_to_be_answered_is_not_asked_again(part: bytes) -> None:
    def script(asked: Asked, wire: Wire) -> None:
        if asked.body == b"1":
            wire.answer(asked.body)
        else:
            wire.send(part)
            wire.close()

    async def work(client: HttpClient) -> None:
        await fetch(client, b"1")
        await fetch(client, b"2")

    with provider(script) as fake, pytest.raises(Refusal, match="'far' broke off") as caught:
        run(work, fake.url)
    assert caught.value.status == 502 and len(fake.asked) == 2


def test_a_new_connection_that_is_lost_is_not_replaced() -> None:
    refusal, fake = refused(lambda asked, wire: wire.close())
    assert (refusal.status, refusal.code, len(fake.asked)) == (502, "proxy_error", 1)
    assert refusal.message == "The provider 'far' broke off its answer: the connection was closed."


def test_a_connection_that_was_closed_while_it_waited_is_not_used() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(asked.body)
        wire.close()

    async def work(client: HttpClient) -> list[bytes]:
        answers = []
        for body in (b"1", b"2"):
            answers.append(await fetch(client, body))
            while client._idle:
                await asyncio.sleep(0.001)
        return answers

    with provider(script) as fake:
        assert run(work, fake.url) == [b"1", b"2"]
        assert len(fake.asked) == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "closed before it was whole"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
            "closed before it was whole",
        ),
        (b"<html>no HTTP</html>\r\n\r\n", "does not begin like HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2**19 + b"\r\n\r\n",
            "too long",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\n\r\n", "it is coded as br"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 30, "it sent no head"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
            "compressed",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n"
            + gzip.compress(b"abc" * 99, mtime=0)[:-9],
            "ended too early",
        ),
    ],
)
def test_broken_answers_are_refused_by_the_provider_s_name(answer: bytes, why: str) -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.send(answer)
        wire.close()

    refusal, _ = refused(script)
    assert refusal.status == 502 and "'far'" in refusal.message
    assert why in refusal.message


def test_an_answer_is_bounded() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.begin("content-encoding: gzip")
        wire.chunk(gzip.compress(bytes(2**22)))  # 4 KB that become 4 MB
        wire.end()

    refusal, _ = refused(script)
    assert refusal.status == 502 and "over 1048576 bytes" in refusal.message


CODERS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", gzip.compress),
    (b"x-gzip", lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:])),
    (b"deflate", zlib.compress),
    (b"deflate", lambda data: zlib.compress(data)[2:-4]),
]


@pytest.mark.parametrize(("coding", "code"), CODERS)
def test_codings_are_undone_in_any_pieces(coding: bytes, code: Callable[[bytes], bytes]) -> None:
    plain = b"".join(b"%d, " % at for at in range(200))
    coded = code(plain)
    for size in (1, 7, len(coded)):
        inflater = Inflater(coding)
        pieces = (coded[at : at + size] for at in range(0, len(coded), size))
        assert b"".join(each for piece in pieces for each in inflater.feed(piece)) == plain
        assert inflater.over
    large, inflater = bytes(2**22), Inflater(coding)
    steps = [*inflater.feed(code(large))]
    assert sum(map(len, steps)) == len(large) and max(map(len, steps)) <= 2**18


def test_time_is_bounded_until_an_answer_begins_and_between_its_pieces() -> None:
    def mute(asked: Asked, wire: Wire) -> None:
        wire.closed()

    late, _ = refused(mute, first_byte_timeout=0.05)
    assert (late.status, late.code) == (504, "timeout")
    assert late.message == "The provider 'far' did not begin to answer for 0.05 seconds."

    def silent(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b"x")
        wire.closed()

    late, _ = refused(silent, idle_timeout=0.05)
    assert late.message == "The provider 'far' sent nothing for 0.05 seconds."
    assert late.status == 504


def test_who_cannot_be_reached_is_told_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://127.0.0.1:99999", "http://no.such.invalid"):
        with pytest.raises(Refusal, match="'far' cannot be reached") as caught:
            run(fetch, url)
        assert (caught.value.status, caught.value.code) == (502, "unreachable")
    with socket.socket() as full, pytest.raises(Refusal) as caught:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        ahead = [socket.socket() for _ in range(8)]
        for each in ahead:  # a backlog that is full lets nobody connect
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        try:
            run(fetch, f"http://127.0.0.1:{port}", connect_timeout=0.2)
        finally:
            for each in ahead:
                each.close()
    assert caught.value.status == 504
    assert caught.value.message == "The provider 'far' could not be reached for 0.2 seconds."


def test_an_abandoned_answer_closes_its_connection() -> None:
    noticed = threading.Event()

    def script(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b"x")
        if wire.closed():
            noticed.set()

    async def close(client: HttpClient) -> None:
        exchange = await client.ask("POST", "/", ())
        assert await exchange.piece() == b"x"
        exchange.close()
        exchange.close()  # once is enough

    async def cancel(client: HttpClient) -> None:
        task = asyncio.ensure_future(fetch(client))
        while not fake.asked:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for work in (close, cancel):
        noticed.clear()
        with provider(script) as fake:
            run(work, fake.url)
            assert noticed.wait(20)


def test_what_matters_being_read_the_connection_is_kept_once_the_end_has_come() -> None:
    go_on = threading.Event()

    def script(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b"done")
        assert go_on.wait(20)
        wire.end()

    async def work(client: HttpClient) -> None:
        for _ in range(2):
            exchange = await client.ask("POST", "/", ())
            assert await exchange.piece() == b"done"
            exchange.finish()
            go_on.set()
            while not client._idle:
                await asyncio.sleep(0.001)

    with provider(script) as fake:
        run(work, fake.url)
        assert fake.connections == 1


def test_no_more_are_asked_at_once_than_may_be() -> None:
    together, most, lock = 0, 0, threading.Lock()

    def script(asked: Asked, wire: Wire) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        threading.Event().wait(0.01)
        with lock:
            together -= 1
        wire.answer(asked.body)

    async def work(client: HttpClient) -> list[bytes]:
        return await asyncio.gather(*(fetch(client, b"%d" % at) for at in range(12)))

    with provider(script) as fake:
        assert run(work, fake.url, max_concurrency=3) == [b"%d" % at for at in range(12)]
        assert most == 3 and fake.connections <= 12


def test_places_are_given_back_however_it_ends() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        if asked.body == b"x":
            wire.close()
        else:
            wire.answer(b"ok")

    async def work(client: HttpClient) -> bytes:
        for _ in range(3):
            with pytest.raises(Refusal):
                await fetch(client, b"x")
        held = await client.ask("POST", "/", ())
        with pytest.raises(Refusal, match="asked 1 times at once already") as caught:
            await fetch(client)
        assert (caught.value.status, caught.value.retry_after) == (503, 1)
        held.close()
        return await fetch(client)

    with provider(script) as fake:
        assert run(work, fake.url, max_concurrency=1, first_byte_timeout=0.2) == b"ok"


def test_a_malformed_key_is_not_shown() -> None:
    async def work(client: HttpClient) -> None:
        await client.ask("POST", "/", ((b"authorization", b"Bearer secret\n"),))

    with pytest.raises(Refusal) as caught:
        run(work, "http://127.0.0.1:9")
    assert "secret" not in str(caught.value) and caught.value.status == 500


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A certificate for localhost that nobody has signed but itself, and its key."""
    where = tmp_path_factory.mktemp("tls")
    paths = where / "certificate.pem", where / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    written = ["-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run([*command.split(), *about, *written], check=True, capture_output=True)
    yield paths


def test_certificates_are_checked(certificate: tuple[Path, Path]) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))

    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b"secret")

    async def ask(url: str, trust: ssl.SSLContext | None) -> bytes:
        client = HttpClient(settings(url), trust)
        try:
            return await fetch(client)
        finally:
            await client.aclose()

    with provider(script, serving) as fake:
        port = fake.port
        assert uvloop.run(ask(f"https://localhost:{port}", trusting)) == b"secret"
        for url, trust in (
            (f"https://127.0.0.1:{port}", trusting),
            (f"https://localhost:{port}", None),
        ):
            with pytest.raises(Refusal, match="'far' cannot be reached"):
                uvloop.run(ask(url, trust))
        assert len(fake.asked) == 1
