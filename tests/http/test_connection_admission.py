"""What is refused at a request's header, and the codings that its body may come in."""

import gzip
import zlib

import pytest

from bessemer.engine.request import Refusal
from tests.http.wire import CHUNKED, GET, POST, client, run


@pytest.mark.parametrize("expects", [b"", b"\r\nExpect: 100-continue"])
def test_what_is_not_admitted_is_refused_before_its_body(expects: bytes) -> None:
    async def main() -> None:
        async with client() as c:
            c.app.refusal = Refusal(401, "missing_api_key", "none")
            head, _, body = POST.partition(b"\r\n\r\n")
            await c.send(head + expects + b"\r\n\r\n")
            [(status, headers, _)] = c.answers()
            assert (status, headers["connection"]) == (401, "close")
            await c.send(body * 1000)
            assert len(c.connection._inbox) == 0 == len(c.connection._request.body)
            assert c.app.requests == []

    run(main)


def test_a_connection_goes_on_where_a_refused_request_is_there_already() -> None:
    async def main() -> None:
        async with client() as c:
            c.app.refusal = Refusal(401, "missing_api_key", "none")
            await c.send(GET + POST + GET)
            assert [status for status, _, _ in c.answers()] == [401] * 3
            assert not c.wire.closing and c.app.requests == []
            await c.send(CHUNKED)
            assert c.answers()[3][1]["connection"] == "close"

    run(main)


def test_the_admitted_request_is_the_answered_one() -> None:
    async def main() -> None:
        async with client() as c:
            await c.send(POST)
            [admitted], [answered] = c.app.admitted, c.app.requests
            assert (answered.id, answered.caller) == (admitted.id, "somebody")
            assert len(c.app.sizes) == 1 and c.app.sizes == [0]

    run(main)


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"GZIP, identity", b"deflate"])
def test_coded_bodies_are_decoded(coding: bytes) -> None:
    data = zlib.compress(b"hello") if coding == b"deflate" else gzip.compress(b"hello")

    async def main() -> None:
        async with client(body=64) as c:
            await c.send(coded(coding, data) + GET, 7)
            assert [body for _, _, body in c.answers()] == [b"/echo hello", b"/a "]
            bomb = gzip.compress(bytes(2**16))
            await c.send(coded(b"gzip", bomb[:64]) + coded(b"gzip", gzip.compress(bytes(65))))
            assert [status for status, _, _ in c.answers()[2:]] == [413, 413]
            await c.send(coded(b"gzip", b"{}"))
            assert c.answers()[-1][0] == 400

    run(main)


def coded(coding: bytes, data: bytes) -> bytes:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (coding, len(data)) + data
