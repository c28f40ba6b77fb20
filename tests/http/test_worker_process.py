"""What a worker inherits, what it died of, and the server's end of its socket."""

import asyncio
import socket
import sys
from typing import Any

import pytest

from bessemer.engine.wire import Cancel, Pulse, worker_channel
from bessemer.http.worker_process import Pipe, cause, launch


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (None, "ended with exit code None"),
        (-9, "was ended by SIGKILL, as the system does where memory is short"),
        (-11, "was ended by SIGSEGV"),
        (-6, "was ended by SIGABRT"),
        (-200, "was ended by signal 200"),
    ],
)
def test_what_a_process_died_of(code: int | None, words: str) -> None:
    assert cause(code) == words


def test_a_process_that_cannot_be_started_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = socket.socketpair()

    async def main() -> None:
        monkeypatch.setattr(socket, "socketpair", lambda: pair)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(OSError, match="nowhere"):
            await launch(1, lambda _: None, lambda: None)

    asyncio.run(main())
    assert [end.fileno() for end in pair] == [-1, -1]


async def _piped(other: socket.socket, ours: socket.socket) -> tuple[Pipe, list[Any]]:
    said: list[Any] = []
    connect = asyncio.get_running_loop().create_unix_connection
    _, pipe = await connect(lambda: Pipe(said.append, lambda: said.append("lost")), sock=ours)
    return pipe, said


def test_a_pipe_that_is_closed_takes_nothing_and_says_so_once() -> None:
    async def main() -> None:
        other, ours = socket.socketpair()
        pipe, said = await _piped(other, ours)
        assert Pipe(said.append, lambda: None).send(Cancel([1])) is False
        assert pipe.send(Cancel([1])) and other.recv(100) == worker_channel().frame(Cancel([1]))
        pipe.close()
        assert pipe.send(Cancel([2])) is False and said == []
        await asyncio.sleep(0.01)
        assert pipe.send(Cancel([3])) is False and said == ["lost"]
        other.close()

    asyncio.run(main())


def test_what_nobody_reads_is_counted() -> None:
    async def main() -> None:
        other, ours = socket.socketpair()
        pipe, _ = await _piped(other, ours)
        assert pipe.unsent == 0
        for _ in range(100):
            pipe.send(Cancel([2**40] * 5000))
        assert 3_000_000 < pipe.unsent < 100 * 9 * 5010
        pipe.close()
        other.close()

    asyncio.run(main())


@pytest.mark.parametrize("end", ["nonsense", "end of file"])
def test_what_is_no_message_is_the_end(end: str) -> None:
    async def main() -> None:
        other, ours = socket.socketpair()
        pipe, said = await _piped(other, ours)
        pulse = Pulse("step", 3, 0.5)
        other.sendall(worker_channel().frame(pulse))
        if end == "nonsense":
            other.sendall(b"\x01\x00\x00\x00\xc1")
        else:
            other.close()
        while "lost" not in said:
            await asyncio.sleep(0.001)
        assert said == [pulse, "lost"] and not pipe.send(Cancel([1]))
        other.close()

    asyncio.run(main())
