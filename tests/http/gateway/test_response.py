"""Answers read in pieces of any size, beside h11; what is ambiguous is no answer."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.http.gateway.response import Head, Item, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
INFORMED = b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 X\r\na: b\r\n\r\n"


def read(*pieces: bytes, closed: bool = False, tunnel: bool = False) -> tuple[list[Item], bool]:
    """Return head, whole body and end, if it came, and whether the connection may be kept."""
    items: list[Item] = []
    reader = ResponseReader(items, tunnel)
    for piece in pieces:
        reader.feed(piece)
    if closed:
        reader.end()
    heads: list[Item] = [each for each in items if isinstance(each, Head)]
    body = b"".join(each for each in items if isinstance(each, bytes))
    assert items.count(b"") == reader.over and (not reader.over or items[-1] == b"")
    return [*heads, body, *([b""] if reader.over else [])], reader.over and reader.keeps


def letters(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


WHOLE: list[tuple[bytes, bytes, bool]] = [
    (OK + b"Content-Length: 3\r\n\r\nabc", b"abc", True),
    (OK + b"content-length:0\r\n\r\n", b"", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (b"HTTP/1.1 304\r\ncontent-length: 5\r\n\r\n", b"", True),
    (OK + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc", True),
    (OK + CHUNKED + b"1;a=b\r\na\r\n0002\r\nbc\r\n00\r\nt: x\r\n\r\n", b"abc", True),
    (OK + b"transfer-encoding: chunked\n\n1\na\n0\n\n", b"a", True),
    (INFORMED + OK + b"content-length: 1\r\n\r\na", b"a", True),
    (OK + b"connection: X, Close\r\ncontent-length: 1\r\n\r\na", b"a", False),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", b"a", False),
    (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na", b"a", True),
    (OK + b"content-length: 1, 1\r\ncontent-length: 1\r\n\r\na", b"a", True),
    # Which of the two lengths is meant, nobody can know: RFC 9112, section 6.3.
    (OK + b"content-length: 9\r\n" + CHUNKED + b"1\r\na\r\n0\r\n\r\n", b"a", False),
]  # fmt: skip


@pytest.mark.parametrize(("data", "body", "keeps"), WHOLE)
def test_answers_are_read_in_any_pieces(data: bytes, body: bytes, keeps: bool) -> None:
    (head, whole, _), kept = read(data)
    assert isinstance(head, Head) and (whole, kept) == (body, keeps)
    assert read(*letters(data)) == ([head, body, b""], keeps)
    for at in range(len(data)):
        assert read(data[:at], data[at:]) == ([head, body, b""], keeps)


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    data = OK + b"server: x\r\n\r\nabc"
    assert read(data)[0][1:] == [b"abc"]
    assert read(*letters(data), closed=True)[0][1:] == [b"abc", b""]
    assert read(data, closed=True)[1] is False


def test_a_tunnel_s_answer_is_a_head() -> None:
    (head, body, _), _ = read(OK + b"content-length: 9\r\n\r\n", tunnel=True)
    assert isinstance(head, Head) and head.status == 200 and body == b""


WRONG: list[tuple[bytes, str]] = [
    (b"HTTP/2 200 OK\r\n\r\n", "begin like HTTP"),
    (b"<html>\r\n\r\n", "begin like HTTP"),
    (b"HTTP/1.1 20 OK\r\n\r\n", "begin like HTTP"),
    (b"HTTP/1.1 101 Switching\r\n\r\n", "no head"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 21, "no head"),
    (OK + b"a: b\r\n folded\r\n\r\n", "malformed"),
    (OK + b"a b: c\r\n\r\n", "malformed"),
    (OK + b"a : c\r\n\r\n", "malformed"),
    (OK + b": c\r\n\r\n", "malformed"),
    (OK + b"a: \0\r\n\r\n", "malformed"),
    (OK + b"a: b\rc: d\r\n\r\n", "malformed"),
    (OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\na", "no number"),
    (OK + b"content-length: -1\r\n\r\n", "no number"),
    (OK + b"content-length: 1a\r\n\r\n", "no number"),
    (OK + b"transfer-encoding: gzip, chunked\r\n\r\n", "encoding is unknown"),
    (OK + b"transfer-encoding: chunked\r\n\r\nx\r\n", "has no size"),
    (OK + b"transfer-encoding: chunked\r\n\r\n-1\r\n", "has no size"),
    (OK + b"transfer-encoding: chunked\r\n\r\n" + b"1" * 17 + b"\r\n", "has no size"),
    (OK + b"transfer-encoding: chunked\r\n\r\n1\r\nab\r\n", "longer than it says"),
    (OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\rb", "longer than it says"),
    (OK + b"content-length: 1\r\n\r\nab", "more than was asked"),
    (b"HTTP/1.1 204 X\r\n\r\na", "more than was asked"),
    (OK + b"a: " + b"b" * 70000, "head is too long"),
    (OK + b"a: " + b"b" * 70000 + b"\r\n\r\n", "head is too long"),
    (OK + b"transfer-encoding: chunked\r\n\r\n1;" + b"x" * 5000, "size is too long"),
    (
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 12000,
        "trailers are too long",
    ),
]


@pytest.mark.parametrize(("data", "why"), WRONG)
def test_what_is_ambiguous_or_too_long_is_no_answer(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(data)
    if len(data) < 1000:
        with pytest.raises(ValueError, match=why):
            read(*letters(data))


@pytest.mark.parametrize("data", [each for each, _, _ in WHOLE if b"\n\n" not in each])
def test_what_ends_too_early_is_no_answer(data: bytes) -> None:
    for at in range(len(data)):
        with pytest.raises(ValueError, match="closed before it was whole"):
            read(data[:at], closed=True)


def theirs(data: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    """Return what h11 reads; None where it refuses, or more is to come."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    status, headers, body = 0, list[tuple[bytes, bytes]](), b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        match event:
            case h11.Response():
                status, headers = event.status_code, [*event.headers]
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return status, headers, body
            case h11.InformationalResponse():
                continue
            case _:
                return None


PARTS = (b"content-length: 2\r\n", b"content-length: 02\r\n", b"transfer-encoding: chunked\r\n")
PARTS += (b"x: y\r\n", b"connection: close\r\n", b"X-Y:\t z \r\n", b"\r\n", b"2\r\nab\r\n", b"ab")
PARTS += (b"0\r\n\r\n", b"0\r\n", b"\n", b"A;x\r\n0123456789\r\n", b":", b" ", INFORMED)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=7))
def test_whatever_is_read_h11_reads_too(parts: list[bytes]) -> None:
    data = OK + b"".join(parts)
    try:
        found, _ = read(data)
    except ValueError:
        return
    if len(found) < 3:
        return
    head, body, _ = found
    assert isinstance(head, Head) and isinstance(body, bytes)
    assert theirs(data) == (head.status, [*head.headers], body)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=5),
    st.booleans(),
    st.dictionaries(
        st.sampled_from(["x-a", "Retry-After", "x_b"]), st.text("abc ;,=\"'!", max_size=9)
    ),
)
def test_whatever_h11_writes_is_read(
    pieces: list[bytes], chunked: bool, headers: dict[str, str]
) -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    server.next_event()
    length = ("transfer-encoding", "chunked")
    if not chunked:
        length = ("content-length", str(sum(map(len, pieces))))
    stripped = {name: value.strip() for name, value in headers.items()}
    head = h11.Response(status_code=200, headers=[*stripped.items(), length], reason=b"Fine")
    sent = [server.send(head), *(server.send(h11.Data(data=piece)) for piece in pieces)]
    data = b"".join(each or b"" for each in [*sent, server.send(h11.EndOfMessage())])
    (told, body, _), keeps = read(*letters(data))
    assert isinstance(told, Head) and body == b"".join(pieces) and keeps
    assert [*told.headers] == [*head.headers]
