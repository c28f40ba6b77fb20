"""Chat templates rendered apart: each in a small process, which may be ended at any time."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec
import psutil

from ..engine.request import Refusal
from ..translate.chat import Chat
from ..translate.parsers.tool_formats import AUTO
from ..translate.template_source import LONGEST, broken, no_template
from .log import Log
from .template_process import (
    FAILED,
    LENGTH,
    OUT_OF_MEMORY,
    Answer,
    Loaded,
    Refused,
    frame,
    packed,
)
from .worker_process import cause

MEMORY = 2**30  # bytes that a template may take
SECONDS = 3  # of the processor that one prompt may take; the longest take a tenth of it
PATIENCE = 300.0  # seconds by the clock, of a machine that has other things to do
BUSY = 0.3  # seconds that a prompt waits for others before it is given to another process
TICK = 0.05  # seconds between two looks at a process that is late
DYING = 10.0  # seconds between a process's last word and its end
REPLY = 2**16  # bytes of an answer beside its text
KEPT = ("HOME", "LANG", "PATH", "TZ")  # of the environment, and all that is Python's

ENDED = "its process"
TOO_SLOW, TOO_LARGE = "it takes too much time", "it takes too much memory"
LOADED = msgspec.msgpack.Decoder(Loaded)
ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
DEATHS: Mapping[int | None, str] = {
    -signal.SIGXCPU: TOO_SLOW,
    OUT_OF_MEMORY: TOO_LARGE,
    FAILED: f"{ENDED} ended with an error of its own",
}  # by exit code

Reply = TypeVar("Reply")


class TemplateHost:
    """A chat template in a process of its own, which is started anew after it was ended.

    One prompt is rendered at a time, and those that wait long for it in another such process: there
    is one for the clients whose own prompts it is that take so long, and one for all others, so
    that no client's dear prompts hold up another's. `name` is the model's.
    """

    def __init__(self, name: str, log: Log, memory: int = MEMORY, seconds: int = SECONDS) -> None:
        self._name, self._log = name, log
        self._memory, self._seconds = memory, seconds
        self._settings: object = None  # the first message to each process
        self._process: Process | None = None
        self._hopeless: Refusal | None = None  # it dies of its template before any conversation
        self._turn = asyncio.Lock()
        self._client: str | None = None  # whose prompt is being rendered
        self._reliefs: dict[bool, TemplateHost] = {}  # by whether for such clients

    async def start(
        self,
        source: str | None,
        special_tokens: Mapping[str, str],
        told: bool = False,
        tool_parser: str = AUTO,
    ) -> str:
        """Start the process; return why the template cannot be used, if it cannot, and log it.

        `source` is None for a model that comes without a template; `told` if an error will tell
        the user of a fault, so that the log need not.
        """
        if source is None:
            return ""
        tokens = dict(special_tokens)
        self._settings = (source, tokens, tool_parser, self._memory, self._seconds)
        async with self._turn:
            try:
                loaded = await self._started()
            except Refusal as refusal:
                return refusal.message
        for note in () if loaded.fault and told else loaded.notes:
            self._log.warning(f"{self._name}: {note}")
        return loaded.fault

    async def render(self, chat: Chat, limit: int) -> str:
        """Return the prompt of a conversation, of `limit` characters at most."""
        if self._settings is None:
            raise no_template()
        host = self
        try:
            async with asyncio.timeout(BUSY):
                await self._turn.acquire()
        except TimeoutError:
            host = self._relief(chat.client)
            await host._turn.acquire()
        host._client = chat.client
        try:
            return await host._render(chat, limit)
        finally:
            host._client = None
            host._turn.release()

    async def _render(self, chat: Chat, limit: int) -> str:
        if self._process is None or _over(self._process):
            await self._started()
        job = await asyncio.to_thread(_job, chat, limit)
        answer = await self._ask(ANSWER, job, 4 * min(limit, LONGEST))
        if isinstance(answer, Refused):
            raise Refusal(answer.status, answer.code, answer.message, answer.field)
        return answer.text

    def _relief(self, client: str) -> "TemplateHost":
        """Return another host for a client, started at its first prompt."""
        itself = client in {host._client for host in (self, *self._reliefs.values())}
        if itself not in self._reliefs:
            relief = TemplateHost(self._name, self._log, self._memory, self._seconds)
            relief._settings = self._settings
            self._reliefs[itself] = relief
        return self._reliefs[itself]

    async def stop(self) -> None:
        for relief in self._reliefs.values():
            await relief.stop()
        await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _started(self) -> Loaded:
        if self._hopeless is not None:
            raise self._hopeless
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or name.startswith("PYTHON")
        }
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "bessemer.http.template_process"),
                stdin=PIPE,
                stdout=PIPE,
                limit=2**20,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is for the server, which ends it
            )
        except OSError as error:  # no process, no memory to be had just now
            self._log.warning(f"{self._name}: no process for its chat template: {error}")
            raise _no_process(error) from None
        try:
            return await self._ask(LOADED, frame(self._settings), REPLY)
        except Refusal as refusal:
            self._hopeless = None if ENDED in refusal.message else refusal
            raise

    async def _ask(self, decoder: msgspec.msgpack.Decoder[Reply], job: bytes, size: int) -> Reply:
        """Send a job and return what comes of it; a process that gives no answer is ended."""
        process, answered = self._process, False
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(job)
        reading = asyncio.create_task(_read(process.stdout, size + REPLY))
        try:
            excess = await self._watch(reading, process.pid)
            if not excess:
                reply = decoder.decode(reading.result())
                answered = True
                return reply
        except (asyncio.IncompleteReadError, ConnectionError):
            with suppress(TimeoutError):  # to kill it first would hide what it died of
                await asyncio.wait_for(process.wait(), DYING)
            code = process.returncode
            excess = DEATHS.get(code, f"{ENDED} {cause(code)}")
        except (msgspec.DecodeError, ValueError):
            excess = "its answer makes no sense"
        finally:
            reading.cancel()
            if not answered:
                await self._end()
        self._log.warning(f"{self._name}: the chat template's process was ended: {excess}")
        raise broken(excess)

    async def _watch(self, reading: "asyncio.Task[bytes]", process: int) -> str:
        """Wait for an answer; return what the process takes too much of, if it does."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while not (await asyncio.wait({reading}, timeout=TICK))[0]:
            if _resident(process) > self._memory:
                return TOO_LARGE
            if loop.time() > end:
                return TOO_SLOW
        return ""


def _job(chat: Chat, limit: int) -> bytes:
    """Return a conversation as it is sent: so much work that the event loop is no place for it."""
    return frame((packed(chat), limit))


async def _read(source: asyncio.StreamReader, longest: int) -> bytes:
    (size,) = LENGTH.unpack(await source.readexactly(LENGTH.size))
    if size > longest:
        raise ValueError("the answer is too long")
    return await source.readexactly(size)


def _over(process: Process) -> bool:
    assert process.stdout is not None
    return process.returncode is not None or process.stdout.at_eof()


def _resident(process: int) -> int:
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0


def _no_process(error: OSError) -> Refusal:
    message = f"There is no process for the chat template just now ({error}); try again soon."
    return Refusal(503, "overloaded", message, retry_after=2)
