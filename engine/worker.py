"""A worker process: one model behind a socket; run as `python -m bessemer.engine.worker FD`.

Rule 1: the main thread makes every mlx call. Rule 2: a step never waits for the server: two threads
read and write the socket. Rule 3: when the server goes, so does this process, at once. Rule 4: the
writing thread says every second what the main thread is at, for the server's watchdog.
"""

import os
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import mlx.core as mx
import psutil

from .devices import LoadError, choose_device, explained
from .embedding.sentence_transformers import describe
from .engine import Engine
from .gguf.container import forget
from .lifeline import end
from .request import AnyRequest, Embed, Event, Rank, Refusal, Refused, Request
from .serving import LoadedModel, load_described
from .wire import (
    VERSION,
    Cancel,
    Configure,
    FromWorker,
    LoadFailed,
    Pulse,
    Ready,
    StepResult,
    Submit,
    ToWorker,
    worker_channel,
)

if TYPE_CHECKING:
    from .embedding.engine import EmbeddingEngine
    from .embedding.serving import LoadedEmbeddingModel

PULSE = 1.0  # seconds of having nothing to say after which a sign of life is sent
READING = 0.2  # the same while the main thread only waits for texts to be tokenized
SERVING = 16 * 10**6  # bytes of code that runs first in a step, of requests, of what malloc holds
LAST = b""  # after this frame, which is none, the writer ends


class SocketChannel:
    """The worker's end of the socket, read and written by two threads."""

    def __init__(self, sock: socket.socket, gone: Callable[[], None]) -> None:
        self._socket = sock
        self._gone = gone
        self._channel = worker_channel()
        self._inbox: queue.SimpleQueue[ToWorker | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._doing = "starting", 0, monotonic()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: FromWorker) -> None:
        self._outbox.put(self._channel.frame(message))

    def doing(self, what: str) -> None:
        """Note what the main thread is at, and that it got on."""
        self._doing = what, self._doing[1] + 1, monotonic()

    def stage(self, what: str) -> None:
        """Note a stage of loading, and say so if it is another one."""
        other = what != self._doing[0]
        self.doing(what)
        if other:
            self.send(self.pulse())

    def pulse(self) -> Pulse:
        what, count, since = self._doing
        return Pulse(what, count, monotonic() - since)

    def first(self) -> ToWorker:
        """Wait for the first message; what came with it stays for `receive`."""
        while (message := self._inbox.get()) is None:
            pass
        return message

    def receive(self, wait: bool) -> list[ToWorker]:
        """Return the messages that are there; `wait` for one, or to be woken."""
        messages = [self._inbox.get()] if wait else []
        while not self._inbox.empty():
            messages.append(self._inbox.get())
        return [message for message in messages if message is not None]

    def wake(self) -> None:
        """End a wait, from any thread: there is something else to do."""
        self._inbox.put(None)

    def finish(self) -> None:
        """Wait until what was sent is on its way, though not for a server that takes nothing."""
        self._outbox.put(LAST)
        self._writer.join(timeout=1)

    def _read(self) -> None:
        while data := self._receive():
            for message in self._channel.feed(data):
                self._inbox.put(message)
        self._gone()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 18)
        except OSError:
            return b""

    def _write(self) -> None:
        parts: list[bytes] = []
        while LAST not in parts:
            try:
                parts = [self._outbox.get(timeout=PULSE)]
            except queue.Empty:
                parts = [self._channel.frame(self.pulse())]
            while not self._outbox.empty():
                parts.append(self._outbox.get())
            try:
                self._socket.sendall(b"".join(parts))
            except OSError:
                self._gone()


def serve(channel: SocketChannel, engine: "Engine | EmbeddingEngine") -> None:
    """Step as long as there is work, and listen between steps; never returns.

    A step after which all requests are still being tokenized is no more than a sign of life.
    """
    said = monotonic()
    while True:
        events: list[Event] = []
        if not engine.busy:
            channel.doing("")
        messages = channel.receive(wait=not engine.busy)
        channel.doing("step")
        for message in messages:
            events += _obey(engine, message)
        events += engine.step()
        report = engine.report()
        if events or report.rows or not report.waiting:
            channel.send(StepResult(events, report))
        elif not engine.busy and monotonic() - said > READING:
            said = monotonic()
            channel.doing("")
            channel.send(channel.pulse())


def _obey(engine: "Engine | EmbeddingEngine", message: ToWorker) -> list[Event]:
    refused: list[Event] = []
    match message:
        case Submit(requests):
            for request in requests:
                try:
                    _submit(engine, request)
                except Refusal as refusal:
                    refused.append(Refused.of(request.id, refusal))
        case Cancel(requests):
            for number in requests:
                engine.cancel(number)
    return refused


def _submit(engine: "Engine | EmbeddingEngine", request: AnyRequest) -> None:
    if isinstance(engine, Engine) and isinstance(request, Request):  # noqa: SIM114 - for types
        engine.submit(request)
    elif not isinstance(engine, Engine) and isinstance(request, Embed | Rank):
        engine.submit(request)
    else:
        raise Refusal(400, "unsupported_model", "This model has another purpose.", "model")


def start(channel: SocketChannel) -> "Engine | EmbeddingEngine | None":
    """Load the model that the first message names, and say so; None if it cannot be served."""
    configure = channel.first()
    if not isinstance(configure, Configure) or configure.version != VERSION:
        channel.send(LoadFailed(f"server and worker disagree on the wire's version ({VERSION})"))
        return None
    channel.stage("preparing kernels")
    try:
        with explained():
            choose_device(configure.settings)
            loaded = _load(configure, channel)
    except LoadError as error:
        channel.send(LoadFailed(str(error)))
        return None
    forget()
    mx.clear_cache()
    mx.set_cache_limit(loaded.plan.working)  # what it keeps for the next step is in the plan, too
    about = loaded.plan, loaded.model_type, loaded.defaults, loaded.vocabulary, loaded.width
    channel.send(Ready(VERSION, *about))
    return loaded.engine


def _load(configure: Configure, channel: SocketChannel) -> "LoadedModel | LoadedEmbeddingModel":
    description = describe(Path(configure.directory))
    settings, memory = configure.settings, configure.memory
    wake, stage = channel.wake, channel.stage
    if description.purpose == "generate":
        return load_described(description, settings, memory, stage, _program, wake=wake)
    from .embedding.serving import load_embedding_model  # here: others start the sooner

    return load_embedding_model(description, settings, memory, wake, stage, _program)


def _program() -> int:
    """Return the bytes that Python, libraries and a tokenizer take, and requests will."""
    return int(psutil.Process().memory_info().rss) + SERVING


def main(descriptor: int) -> int:
    for terminal in (signal.SIGINT, signal.SIGHUP):  # both may reach us too; the server decides
        signal.signal(terminal, signal.SIG_IGN)
    channel = SocketChannel(socket.socket(fileno=descriptor), gone=end)
    engine = start(channel)
    if engine is not None:
        try:
            serve(channel, engine)
        except Exception:  # noqa: BLE001 - the worker's loop: say why, end, and be restarted
            traceback.print_exc()
    channel.finish()
    return 1


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(int(sys.argv[1])))
