"""What a test of a server under load takes for an answer, a refusal and a loss."""

import h11
import pytest

from bessemer.bench.serving.exchange import Outcome, read


def client() -> h11.Connection:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    return connection


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + end


def plain(status: int, body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, more, len(body), body)


def test_a_stream_is_whole_with_its_mark() -> None:
    first = b'data: {"choices":[{"index":1,"text":"b"},{"index":0,"text":"a"}]}\n\n'
    outcome = read(client(), chunked(first, b"data: [DONE]\n\n"), 0)
    assert (outcome.status, outcome.text, outcome.whole) == (200, "a|b", True)
    assert outcome.proper


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        chunked(b'data: {"choices":[{"text":"a"}]}\n\n'),
        chunked(b'data: {"choices":[{"text":"a"}]}\n\n', end=b""),
        plain(500, b'{"error":{"code":"internal_error"}}'),
        plain(503, b""),
    ],
)
def test_what_leaves_a_client_without_an_answer_or_a_reason_is_a_loss(raw: bytes) -> None:
    assert not read(client(), raw, 0).proper


def test_a_refusal_is_proper_and_says_when_to_come_back() -> None:
    raw = plain(503, b'{"error":{"code":"worker_died"}}', b"Retry-After: 2\r\n")
    outcome = read(client(), raw, 0)
    assert (outcome.error, outcome.retry_after, outcome.proper) == ("worker_died", "2", True)


def test_a_stream_that_says_why_it_breaks_off_is_no_whole_answer() -> None:
    outcome = read(client(), chunked(b'data: {"error":{"code":"worker_died"}}\n\n'), 0)
    assert (outcome.whole, outcome.error, outcome.proper) == (False, "worker_died", True)


def test_an_answer_of_each_dialect_has_its_text() -> None:
    for body, text in (
        (b'{"choices":[{"text":"a"},{"text":"b"}]}', "a|b"),
        (b'{"choices":[{"message":{"content":"c"}}]}', "c"),
        (b'{"content":[{"type":"text","text":"d"}]}', "d"),
    ):
        assert read(client(), plain(200, body), 0).text == text


def test_who_left_has_lost_nothing() -> None:
    assert Outcome(left=True).proper
    assert not Outcome().proper
