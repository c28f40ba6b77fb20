"""A process that holds one chat template, which is not trusted: bounded in memory and time."""

import math
import os
import pickle
import resource
import struct
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import Annotated, Any, BinaryIO

import msgspec
from msgspec import Meta, Struct

from ..engine.request import Refusal
from ..translate.template import ChatTemplate

LENGTH = struct.Struct("<Q")
OUT_OF_MEMORY = 3  # the exit code of a process that cannot even say so


class Loaded(Struct, frozen=True, tag="loaded"):
    """The template is there; `fault` says why it cannot be used, `notes` are for the log."""

    fault: str
    notes: tuple[str, ...]


class Rendered(Struct, frozen=True, tag="rendered"):
    text: str


class Refused(Struct, frozen=True, tag="refused"):
    """A refusal by its fields."""

    status: Annotated[int, Meta(ge=400, le=599)]
    code: str
    message: str
    field: str | None = None


Answer = Rendered | Refused
ENCODER = msgspec.msgpack.Encoder()


def frame(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


def main() -> None:
    """Answer what comes on standard input, one job at a time, until that ends."""
    jobs: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, jobs), daemon=True).start()
    source, special_tokens, memory, seconds = jobs.get()
    _limit(resource.RLIMIT_AS, memory)
    _allow(seconds)
    template = ChatTemplate(source, special_tokens)
    _reply(Loaded(template.fault, template.notes))
    while True:
        chat, limit = jobs.get()
        _allow(seconds)
        try:
            _reply(Rendered(template.render(chat, limit)))
        except Refusal as refusal:
            _reply(Refused(refusal.status, refusal.code, refusal.message, refusal.field))


def _read(source: BinaryIO, jobs: SimpleQueue[Any]) -> None:
    """Read jobs, pickled, in frames; whoever sent them is gone at their end, and so are we."""
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        jobs.put(pickle.loads(source.read(*LENGTH.unpack(head))))
    os._exit(0)


def _reply(reply: Loaded | Answer) -> None:
    sys.stdout.buffer.write(frame(ENCODER.encode(reply)))
    sys.stdout.buffer.flush()


def _allow(seconds: int) -> None:
    """Allow the next job these seconds of the processor, from now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime) + seconds)


def _limit(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    least = value if most == resource.RLIM_INFINITY else min(value, most)
    with suppress(OSError, ValueError):  # macOS bounds no address space; the server looks at it
        resource.setrlimit(kind, (least, most))


if __name__ == "__main__":
    try:
        main()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
