"""A process that holds one chat template, which is not trusted: bounded in memory and time."""

import math
import os
import pickle
import resource
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Annotated, Any, BinaryIO

import msgspec
from msgspec import Meta, Struct

from ..engine.request import Refusal
from ..translate.chat import Chat, Message, Tool, ToolCall
from ..translate.parts import Text

LENGTH = struct.Struct("<Q")
OUT_OF_MEMORY, FAILED = 3, 4  # the exit codes of a process that cannot even say so


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


def frame(job: object) -> bytes:
    body = pickle.dumps(job)
    return LENGTH.pack(len(body)) + body


def packed(chat: Chat) -> object:
    """Return what a template reads of a conversation in plain tuples, which pickle is quick at."""
    turns = [
        (
            turn.role,
            [part.text for part in turn.content if isinstance(part, Text)],
            turn.reasoning,
            turn.name,
            [(call.id, call.name, call.arguments) for call in turn.calls],
            turn.result_of,
            turn.in_parts,
        )
        for turn in chat.messages
    ]
    tools = [(tool.name, tool.description, tool.parameters) for tool in chat.listed]
    return turns, tools, chat.template, chat.continue_final


def unpacked(job: Any) -> Chat:
    turns, tools, template, continue_final = job
    messages = tuple(
        Message(
            role,
            tuple(map(Text, texts)),
            reasoning,
            name,
            tuple(ToolCall(*call) for call in calls),
            result,
            in_parts=in_parts,
        )
        for role, texts, reasoning, name, calls, result, in_parts in turns
    )
    given = tuple(Tool(*tool) for tool in tools)
    return Chat("", messages, template=template, continue_final=continue_final, tools=given)


def main() -> None:
    """Answer what comes on standard input, one job at a time, until that ends."""
    from ..translate.template import ChatTemplate  # here: the server needs the rest alone

    jobs: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, jobs), daemon=True).start()
    source, special_tokens, tool_parser, memory, seconds = jobs.get()
    _limit(resource.RLIMIT_AS, memory)
    _allow(seconds)
    template = ChatTemplate(source, special_tokens, tool_parser=tool_parser)
    _reply(Loaded(template.fault, template.notes))
    while True:
        job, limit = jobs.get()
        _allow(seconds)
        try:
            _reply(Rendered(template.render(unpacked(job), limit)))
        except Refusal as refusal:
            _reply(Refused(refusal.status, refusal.code, refusal.message, refusal.field))


def _read(source: BinaryIO, jobs: SimpleQueue[Any]) -> None:
    """Read jobs, pickled, in frames; whoever sent them is gone at their end, and so are we."""
    with _ending(FAILED):
        while len(head := source.read(LENGTH.size)) == LENGTH.size:
            jobs.put(pickle.loads(source.read(*LENGTH.unpack(head))))
        os._exit(0)


@contextmanager
def _ending(code: int) -> Iterator[None]:
    """End the process with what is done, at once, and say with which error.

    An interpreter that ends by itself aborts while a thread of its own reads standard input.
    """
    try:
        yield
    except MemoryError:
        code = OUT_OF_MEMORY
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        os._exit(code)


def _reply(reply: Loaded | Answer) -> None:
    body = ENCODER.encode(reply)
    sys.stdout.buffer.write(LENGTH.pack(len(body)))
    sys.stdout.buffer.write(body)
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
    with _ending(FAILED):
        main()
