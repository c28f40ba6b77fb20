"""The lean client: bytes cut anywhere give the same events, each at the time of its last byte."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from bessemer.bench.serving.lean import Wire, gets, reply, streams

EVENTS = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "one"}}]},
    {"choices": [{"delta": {"reasoning_content": "two"}}]},
    {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens": 5}},
]
PARTS = [f"data: {json.dumps(event)}\n\n".encode() for event in EVENTS] + [b"data: [DONE]\n\n"]
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def wire(pieces: list[bytes]) -> Wire:
    return Wire(socket.socket(), 0.5, pieces, [float(n + 1) for n in range(len(pieces))])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def received(pieces: list[bytes]) -> tuple[int, list[float], int, int, str]:
    connection = wire(pieces)
    answer = reply(connection)
    connection.socket.close()
    return answer.status, answer.pieces, answer.tokens, answer.prompt_tokens, answer.error


def test_events_have_the_time_of_their_arrival() -> None:
    assert received([PLAIN, *PARTS]) == (200, [3.0, 4.0], 2, 5, "")
    assert received([CHUNKED, *map(chunk, PARTS)]) == (200, [3.0, 4.0], 2, 5, "")


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("chunks", [False, True])
def test_however_the_bytes_are_cut(size: int, chunks: bool) -> None:
    stream = b"".join(PARTS)
    halves = [stream[:90], stream[90:]]  # a chunk's end within an event
    raw = CHUNKED + b"".join(map(chunk, halves)) + chunk(b"") if chunks else PLAIN + stream
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    status, moments, *rest = received(pieces)
    assert (status, rest) == (200, [2, 5, ""]) and len(moments) == 2
    for moment, part in zip(moments, PARTS[1:3], strict=True):
        end = raw.find(part[-20:-2]) + 18
        if not chunks:
            assert moment == (end - 1) // size + 1


def test_errors_and_silence() -> None:
    body = b'{"error": {"message": "no"}}'
    assert received([b"HTTP/1.1 400 Bad\r\n\r\n" + body])[-1] == body.decode()
    assert received([b""])[-1] == "ValueError: no answer in HTTP"
    with pytest.raises(OSError):
        streams("http://127.0.0.1:1", "/", [{}])


@contextmanager
def answering(*pieces: bytes) -> Iterator[str]:
    """A server of one connection that sends these pieces for each request."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                while connection.recv(1 << 16):
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(0.001)
                    if not pieces:
                        return

        thread = Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_gets_count_whole_answers() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    with answering(head[:30], head[30:] + b"abc", b"def") as url:
        count, seconds = gets(url, "/v1/models", 1, 0.05)
        assert count > 0 and seconds >= 0.05


@pytest.mark.parametrize(
    ("pieces", "excerpt"),
    [
        ([b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"], "began with b'HTTP/1.1 404"),
        ([], "ended within an answer"),
    ],
)
def test_gets_say_what_is_no_answer(pieces: list[bytes], excerpt: str) -> None:
    with answering(*pieces) as url, pytest.raises(ValueError, match=excerpt):
        gets(url, "/", 1, 5)
