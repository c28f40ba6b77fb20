"""Responses that are made in the background: they go on whether their client listens or not."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from ...engine.request import Refusal, shutting_down
from ...translate.chat import Event, Failure
from ...translate.openai_responses import ResponseWriter, encode_piece
from ...translate.openai_responses_body import Piece, encode_json, output_items
from ..framing import ServerSentEvents
from .store import ResponseStore, StoredResponse

RUNNING = 256  # at once, and bytes that their requests' bodies may have together:
BODIES = 24 * 2**20
LOGS = 128 * 2**20  # bytes of the events that are kept of them for clients to come back
FULL = Refusal(
    503, "overloaded", "Too many responses are made in the background; try again.", retry_after=5
)
LONG = Refusal(
    503,
    "overloaded",
    "Streams of responses in the background take all memory that they may; try again.",
    retry_after=5,
)
FAULT = Refusal(500, "internal_error", "Internal server error.")
SSE = ServerSentEvents()

Events = AsyncGenerator[Event, None]


def framed(piece: Piece) -> bytes:
    return SSE.frame(encode_piece(piece))


class RunningResponse:
    """A response on its way, with the events of its stream so far where it `streams`."""

    def __init__(self, stored: StoredResponse, writer: ResponseWriter, streams: bool) -> None:
        self.stored, self.writer = stored, writer
        self.streams = streams
        self._log: list[bytes] = []
        self.logged = self.counted = 0  # bytes, and those that count against all responses' limit
        self._news = asyncio.Event()
        self.over = False
        self.cancelled = False
        self.note(writer.queue())

    @property
    def body(self) -> bytes:
        return encode_json(self.writer.body)

    def note(self, pieces: list[Piece]) -> None:
        if self.streams:
            told = [framed(piece) for piece in pieces]
            self._log += told
            self.logged += sum(map(len, told))
            self._tell()

    def end(self) -> None:
        """Note that the response is stored as it is in the end."""
        self.over = True
        self._tell()

    def record(self) -> StoredResponse:
        """Return the response as it is to be kept."""
        body = self.writer.body
        events = b"".join(self._log) if self.streams and self.writer.over else None
        return replace(
            self.stored,
            body=self.body,
            output=output_items(body),
            running=not self.writer.over,
            events=events,
        )

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        """Yield the events behind the one of this number, as they come."""
        at = after + 1
        while True:
            if at < len(self._log):
                yield b"".join(self._log[at:])
                at = len(self._log)
            elif self.over:
                return
            else:
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class BackgroundResponses:
    """The responses that are made in the background, in a task each."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, RunningResponse] = {}
        self._sizes: dict[str, int] = {}  # of their requests' bodies
        self._logged = 0

    def find(self, owner: str, id: str) -> RunningResponse | None:
        running = self._running.get(id)
        return running if running is not None and running.stored.owner == owner else None

    async def start(self, running: RunningResponse, events: Events, size: int) -> None:
        """Begin with a response whose request has so many bytes. Raises Refusal."""
        sizes = [self._sizes[id] for id, each in self._running.items() if not each.writer.over]
        if len(sizes) >= RUNNING or sum(sizes) + size > BODIES:
            raise FULL
        id = running.stored.id
        self._running[id], self._sizes[id] = running, size
        try:
            await self._store.put(running.record())
        except asyncio.CancelledError:  # its client has gone
            self._over(id)
            raise
        task = asyncio.create_task(self._run(running, events))
        self._tasks[id] = task
        task.add_done_callback(lambda _: self._over(id))
        await asyncio.sleep(0)  # a task that is cancelled before it runs does not even clean up

    async def cancel(self, running: RunningResponse) -> None:
        """End a response because its client asked for that, and wait until it is over."""
        running.cancelled = True
        await self._stop([running.stored.id])

    async def close(self) -> None:
        """End all responses, for the server does."""
        await self._stop([*self._tasks])

    async def _stop(self, ids: Sequence[str]) -> None:
        """End responses, but let those be kept that are over, which takes a moment."""
        tasks = [self._tasks[id] for id in ids if id in self._tasks]
        for id in ids:
            if id in self._tasks and not self._running[id].writer.over:
                self._tasks[id].cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _note(self, running: RunningResponse, event: Event) -> None:
        """Note what an event brings. Raises Refusal if all that was noted takes too much memory."""
        before = running.logged
        running.note(running.writer.add(event))
        self._logged += running.logged - before
        running.counted += running.logged - before
        if self._logged > LOGS and not running.writer.over:
            raise LONG

    def _over(self, id: str) -> None:
        running = self._running.pop(id, None)
        self._logged -= running.counted if running else 0
        self._tasks.pop(id, None)
        del self._sizes[id]

    async def _run(self, running: RunningResponse, events: Events) -> None:
        writer = running.writer
        try:
            async with aclosing(events):
                async for event in events:
                    self._note(running, event)
                    if writer.over:
                        break
        except Refusal as refusal:
            running.note(writer.add(Failure(refusal)))
        except asyncio.CancelledError:
            failure = Failure(shutting_down())
            running.note(writer.cancel() if running.cancelled else writer.add(failure))
        finally:
            if not writer.over:
                running.note(writer.add(Failure(FAULT)))
            await self._store.put(running.record())
            running.end()
