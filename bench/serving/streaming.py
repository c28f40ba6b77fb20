"""The processor time that the server's process spends on a streamed token, stage by stage.

python -P -m bessemer.bench.serving.streaming

There is no model: tokens are said over the worker's socket, as a worker says them, a step when all
clients have the one before. The whole is the server from that socket to those of HTTP, once warm,
without the turns that the loop would take anyway. Stages are timed one by one too; the rest of the
whole is what hands events on, and the system's calls.
"""

import asyncio
import gc
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Annotated, Any

from rich.table import Table
from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.compare.show import console
from bessemer.bench.serving.tokenizing import Ways, read_ways
from bessemer.engine.memory import Plan
from bessemer.engine.request import Event, GenerationDefaults, Started, StepReport, Token
from bessemer.engine.settings import Settings
from bessemer.engine.wire import (
    VERSION,
    FromWorker,
    Ready,
    StepResult,
    Submit,
    ToWorker,
    server_channel,
    worker_channel,
)
from bessemer.http.backends import Backends
from bessemer.http.config import Config
from bessemer.http.endpoints import DIALECTS
from bessemer.http.fleet import Worker
from bessemer.http.framing import FRAMINGS
from bessemer.http.hub import BUILT_IN, resolve
from bessemer.http.limits import ConnectionLimits
from bessemer.http.listen import Shutdown, bind, listen
from bessemer.http.local import GenerationBackend, Patience
from bessemer.http.log import Log
from bessemer.http.serve import application
from bessemer.http.worker_process import Pipe
from bessemer.translate.answer import AnswerStream, Bounds
from bessemer.translate.chat import Chat, Identity

MOST = 20.0  # microseconds of the stages that decode and encode a token
PATHS = {"OpenAI": "/v1/chat/completions", "Anthropic": "/v1/messages"}
SAID = "the of a request is read by one model, and so (as ever) its answer: 42 if x < y then "
CALL = '<tool_call>\n{"name": "write", "arguments": {"text": "'  # as a prompted model calls
TOOL: Mapping[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}}
TOOLS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "OpenAI": [{"type": "function", "function": {"name": "write", "parameters": TOOL}}],
    "Anthropic": [{"name": "write", "input_schema": TOOL}],
}
CONTEXT = 2**20
READY = Ready(VERSION, Plan(1, 1, 1, 1, 1, CONTEXT), "llama", GenerationDefaults(), 2**20)
WARM = 64  # steps before those that count
TURNS = 4  # of the loop, after which a step has passed through the server
STAGES = ("wire", "text", "dialect", "frame")


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of stream: the dialect, whether there are tools, whether the answer calls one."""

    dialect: str
    tools: bool = False
    calls: bool = False

    @property
    def body(self) -> bytes:
        more = {"tools": TOOLS[self.dialect]} if self.tools else {}
        asked = {"messages": [{"role": "user", "content": "?"}], "max_tokens": CONTEXT // 2}
        return json.dumps({"model": "", "stream": True, **asked, **more}).encode()

    @property
    def chat(self) -> Chat:
        chat = DIALECTS[PATHS[self.dialect]].decode_request(self.body)
        assert isinstance(chat, Chat)
        return chat

    def tokens(self, ways: Ways, steps: int) -> list[int]:
        """Return an answer of so many tokens, warm ones first."""
        encode = ways.renderer.tokenizer.encode
        begin, rest = encode(CALL if self.calls else "Well: "), encode(SAID, special=False)
        return [*begin, *rest * (steps // len(rest) + 1)][:steps]

    def __str__(self) -> str:
        kind = "arguments" if self.calls else "text, tools on" if self.tools else "text"
        return f"{self.dialect}: {kind}"


CASES = [Case(each, *how) for each in PATHS for how in ((), (True,), (True, True))]


def stages(ways: Ways, case: Case, steps: int) -> tuple[list[float], bytes]:
    """Return the microseconds a token of each stage by itself, and the body that comes of it."""
    chat, number = case.chat, count(1)
    bounds = Bounds(CONTEXT, CONTEXT, GenerationDefaults(), CONTEXT)
    prompts, tokenizer = [ways.prompt(chat)], ways.renderer.tokenizer
    answer = AnswerStream(chat, prompts, tokenizer, bounds, lambda: next(number), 0, time.monotonic)
    dialect = DIALECTS[PATHS[case.dialect]]
    encoder = dialect.stream(Identity(dialect.prefix + 24 * "0", 1, "bench"), chat.options)
    framer, wire, worker = FRAMINGS[dialect.framing](), server_channel(), worker_channel()
    said: list[Event] = [Started(1, 0), *(Token(1, [id]) for id in case.tokens(ways, steps))]
    frames = [worker.frame(StepResult([each], StepReport(rows=1, running=1))) for each in said]
    messages, first = timed(lambda frame: [*wire.feed(frame)], frames)
    events, second = timed(lambda message: [*answer.take(message[0].events[0])], messages)
    sent, third = timed(lambda each: [*map(encoder.encode, each)], events)

    def framed(each: Iterable[Iterable[Any]]) -> bytes:
        return b"".join(framer.frame(one) for some in each for one in some)

    pieces, fourth = timed(framed, sent)
    return [first, second, third, fourth], b"".join(pieces)


def timed(function: Callable[[Any], Any], items: Sequence[Any]) -> tuple[list[Any], float]:
    """Return what becomes of items, and the microseconds that one takes once it is warm."""
    results = [*map(function, items[:WARM])]
    begun = time.thread_time_ns()
    results += map(function, items[WARM:])
    return results, (time.thread_time_ns() - begun) / 1000 / (len(items) - WARM)


class Stranger:
    """A worker that is somebody else's process; it ends when its socket does."""

    unsent = 0

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def send(self, message: ToWorker) -> bool:
        return self._pipe.send(message)

    def kill(self) -> None:
        self._pipe.close()

    async def end(self, patience: float) -> int | None:
        self._pipe.close()
        return 0


@dataclass(frozen=True, slots=True)
class Outside:
    """All that is outside of the server: its worker, at the end of a socket, and its clients."""

    worker: socket.socket
    port: int

    async def play(
        self, case: Case, tokens: Sequence[int], streams: int
    ) -> tuple[float, list[bytearray]]:
        """Let clients ask and a worker answer.

        Return the microseconds a token and stream, and what each client got.
        """
        body, loop = case.body, asyncio.get_running_loop()
        head = f"POST {PATHS[case.dialect]} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        clients = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(streams)]
        channel, ids, got = worker_channel(), list[int](), [bytearray() for _ in clients]
        for client in clients:
            client.setblocking(False)
            await loop.sock_sendall(client, request)
        while len(ids) < streams:
            for message in channel.feed(await loop.sock_recv(self.worker, 1 << 16)):
                ids += [each.id for each in message.requests if isinstance(message, Submit)]

        async def say(events: Sequence[Event]) -> int:
            """Say a step; return the nanoseconds until it is with the clients."""
            report = StepReport(rows=len(events), running=len(events))
            self.worker.sendall(channel.frame(StepResult([*events], report)))
            taken = await turns()
            for client, received in zip(clients, got, strict=True):
                with suppress(BlockingIOError):
                    received += client.recv(1 << 16)
            return taken

        await say([Started(id, 0) for id in ids])
        for token in tokens[:WARM]:
            await say([Token(id, [token]) for id in ids])
        taken = 0
        for token in tokens[WARM:]:
            taken += await say([Token(id, [token]) for id in ids])
            taken -= await turns()
        await say([Token(id, [], "length") for id in ids])
        for client in clients:
            client.close()
        return taken / 1000 / len(tokens[WARM:]) / streams, got


async def turns() -> int:
    """Let the loop take as many turns as a step needs; return the nanoseconds that it computes."""
    begun = time.thread_time_ns()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return time.thread_time_ns() - begun


@asynccontextmanager
async def served(ways: Ways) -> AsyncIterator[Outside]:
    """Serve a model that somebody else is the worker of."""
    ours, theirs = socket.socketpair()
    log, loop = Log("error"), asyncio.get_running_loop()

    async def launch(
        threads: int, on_message: Callable[[FromWorker], None], on_lost: Callable[[], None]
    ) -> Stranger:
        connect = loop.create_unix_connection
        _, pipe = await connect(lambda: Pipe(on_message, on_lost), sock=ours)
        theirs.sendall(worker_channel().frame(READY))
        theirs.setblocking(False)
        return Stranger(pipe)

    worker = Worker("bench", Path(), 1, Settings(), log, launch=launch)
    await worker.start()
    backend = GenerationBackend("bench", 1, worker, ways.host, ways.renderer, CONTEXT, Patience())
    sockets, shutdown = bind("127.0.0.1", 0), Shutdown()
    app = application(Config(), Backends({"bench": backend}), None, log)
    heard = sockets, ConnectionLimits(), shutdown
    listening = asyncio.create_task(listen(app, *heard, grace=1, interrupt=lambda: None))
    await loop.sock_recv(theirs, 1 << 16)  # what it is to load
    try:
        yield Outside(theirs, sockets[0].getsockname()[1])
    finally:
        shutdown.at_once()
        await listening
        await worker.stop()
        theirs.close()


async def wholes(ways: Ways, steps: int, streams: Sequence[int]) -> list[list[float]]:
    """Return, for each case, the microseconds of the whole server a token, by streams."""
    async with served(ways) as outside:
        return [
            [(await outside.play(case, case.tokens(ways, steps), each))[0] for each in streams]
            for case in CASES
        ]


# fmt: off
@command(__doc__)
def main(
    model: Annotated[str, Option(help="Whose tokenizer and template count.")] = str(BUILT_IN),
    steps: Annotated[int, Option(min=2 * WARM, help="Tokens of a stream.")] = 2000,
    rounds: Annotated[int, Option(min=1, help="The median of which is told.")] = 5,
) -> int:
    # fmt: on
    """Exit with 1 where a token takes longer than it may."""
    streams = 1, 8
    with read_ways(resolve(model, offline=True)) as ways:
        gc.freeze()  # as the server does
        parts = [[stages(ways, case, steps)[0] for case in CASES] for _ in range(rounds)]
        whole = [ways.runner.run(wholes(ways, steps, streams)) for _ in range(rounds)]
    headings = (*STAGES, "together", *(f"whole, {each} streams" for each in streams))
    table = Table("microseconds a token", *headings)
    slow = False
    for at, case in enumerate(CASES):
        own = [median(each) for each in zip(*(found[at] for found in parts), strict=True)]
        every = [median(each) for each in zip(*(found[at] for found in whole), strict=True)]
        slow = slow or sum(own) > MOST
        table.add_row(str(case), *(f"{each:.1f}" for each in (*own, sum(own), *every)))
    console().print(table)
    return FAILED if slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
