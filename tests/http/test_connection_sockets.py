"""Clients as they really behave, on sockets: half closed, gone, still sending, too far ahead."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from bessemer.http.connection import READ_AHEAD
from tests.http.running import eventually
from tests.http.test_listen import PATIENCE, Served, served

GET = b"GET %b HTTP/%b\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as each:
        yield each


def connect(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def received(client: socket.socket) -> bytes:
    """Return all that comes until the server closes; a reset raises."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize(
    ("path", "end"), [(b"/", b"hello"), (b"/wait", b"waited"), (b"/stream", b"finished")]
)
def test_a_half_closed_client_gets_its_whole_answer(
    server: Served, version: bytes, path: bytes, end: bytes
) -> None:
    with closing(connect(server)) as client:
        client.sendall(GET % (path, version))
        client.shutdown(socket.SHUT_WR)
        if path != b"/":
            begun = b"HTTP/1.1 200 OK" if path == b"/stream" else b"HTT"  # probed three times
            while len(client.recv(100, socket.MSG_PEEK)) < len(begun):
                pass
            server.call(server.app.free.set)
        data = received(client)
        server.call(server.app.free.clear)
        last = b"\r\n".join((end, b"0", b"", b"")) if data.count(b"chunked") else end
        assert data.startswith(b"HTTP/1.1 200 OK\r\n") and data.endswith(last)


@pytest.mark.parametrize(
    ("path", "how"),
    [
        *((path, how) for path in (b"/wait", b"/deaf") for how in ("close", "reset")),
        (b"/wait", "close after a half"),
        (b"/wait", "close after too much"),
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_client_that_leaves_ends_its_handler(
    server: Served, version: bytes, path: bytes, how: str
) -> None:
    before = server.app.answered, len(server.app.ended)
    with closing(connect(server)) as client:
        client.sendall(GET % (path, version))
        assert eventually(lambda: server.app.answered > before[0])
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "close after a half":
            client.shutdown(socket.SHUT_WR)
        elif how == "close after too much":  # the server reads no further, so it sees no end
            client.sendall(b"x" * (READ_AHEAD + 20_000))
    assert eventually(lambda: len(server.app.ended) > before[1])


def test_a_client_that_leaves_before_its_request_is_whole_leaves_nothing(server: Served) -> None:
    for beginning in (b"", GET[:9], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"):
        with closing(connect(server)) as client:
            client.sendall(beginning)
    with closing(connect(server)) as client:
        client.sendall(GET % (b"/", b"1.0"))
        assert received(client).endswith(b"hello")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 99999999", b"Transfer-Encoding: chunked\r\n\r\nffffff"]
)
def test_who_sends_a_body_that_is_refused_can_read_why(server: Served, framing: bytes) -> None:
    """The answer would be lost, at some clients, if the rest of the body met a closed socket."""
    with closing(connect(server)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % framing)
        for _ in range(12):
            client.sendall(b"x" * 2**20)
        client.shutdown(socket.SHUT_WR)
        assert received(client).startswith(b"HTTP/1.1 413 ")


def test_what_is_sent_behind_the_last_answer_does_not_reset_it(server: Served) -> None:
    for path, end in ((b"/", b"hello"), (b"/stream", b"begun finished")):
        with closing(connect(server)) as client:
            server.call(server.app.free.set)
            client.sendall(GET % (path, b"1.0") + GET % (b"/", b"1.1") * 9000)
            assert received(client).endswith(end)
            server.call(server.app.free.clear)


def test_a_thousand_requests_in_one_piece(server: Served) -> None:
    with closing(connect(server)) as client:
        sender = threading.Thread(target=client.sendall, args=(GET % (b"/", b"1.1") * 1000,))
        sender.start()
        data = b""
        while data.count(b"hello") < 1000:
            piece = client.recv(65536)
            assert piece
            data += piece
        sender.join()
        assert data.count(b"HTTP/1.1 200 OK") == 1000
