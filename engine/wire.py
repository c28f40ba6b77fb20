"""The messages of server and worker: msgspec structs in length-prefixed frames."""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from .memory import Plan
from .request import AnyRequest, Event, GenerationDefaults, StepReport
from .request_group import RequestGroup, pack, unpack
from .settings import Settings

VERSION = 17
_LENGTH = struct.Struct("<I")


class Configure(Struct, frozen=True, tag="configure"):
    """The first message to a worker: the model, bytes of memory for it, and how to run it."""

    version: int
    directory: str
    memory: int
    settings: Settings


class Submit(Struct, frozen=True, tag="submit"):
    requests: list[AnyRequest]


class PackedSubmit(Struct, frozen=True, tag="submit"):
    """A Submit as it travels."""

    requests: list[RequestGroup | AnyRequest]


class Cancel(Struct, frozen=True, tag="cancel"):
    requests: list[int]


class Ready(Struct, frozen=True, tag="ready"):
    """The worker serves. `defaults` are generation_config.json's, if there is one.

    The model has ids below `vocabulary`, which need not be the tokenizer's, and hidden states of
    `width` numbers.
    """

    version: int
    plan: Plan
    model_type: str
    defaults: GenerationDefaults
    vocabulary: int
    width: int = 0


class LoadFailed(Struct, frozen=True, tag="failed"):
    """The model cannot be served; `message` is for the person at the command line."""

    message: str


class StepResult(Struct, frozen=True, tag="step"):
    """Everything that came of one step, in one frame."""

    events: list[Event]
    report: StepReport


class Pulse(Struct, frozen=True, tag="pulse"):
    """A sign of life, about once a second: what the worker's main thread is at.

    `doing` is a stage of loading, "step", or empty while it waits; `count` goes up whenever it gets
    on, last `seconds` ago.
    """

    doing: str
    count: int
    seconds: float


ToWorker = Configure | Submit | Cancel
FromWorker = Ready | LoadFailed | StepResult | Pulse


class WireError(Exception):
    """The other end speaks another version, or not this language at all."""


class Channel:
    """A framing of messages one way and a reading of frames the other, without a socket."""

    def __init__(self, incoming: Any) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._buffer = bytearray()

    def frame(self, message: Struct) -> bytes:
        if isinstance(message, Submit):
            message = PackedSubmit(pack(message.requests))
        body = self._encode(message)
        return _LENGTH.pack(len(body)) + body

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the messages that `data` completes. Raises WireError for what is none."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[_LENGTH.size : end])
            del self._buffer[:end]
            try:
                message = self._decode(body)
            except msgspec.DecodeError as error:
                raise WireError(f"unreadable message: {error}") from None
            packed = isinstance(message, PackedSubmit)
            yield Submit([*unpack(message.requests)]) if packed else message


def server_channel() -> Channel:
    return Channel(FromWorker)


def worker_channel() -> Channel:
    return Channel(Configure | PackedSubmit | Cancel)
