"""A dialect: one record of all that an endpoint must know to speak it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import Struct

from ..engine.request import Refusal
from .chat import Answer, Chat, Event, GenerateRequest, GenerationOptions, Identity
from .operation import Operation

# A JSON document a line, with a last one that says that it is over in `json_lines`; `json` is one
# document for the whole stream.
Framing = Literal["sse", "ndjson", "json_lines", "json"]


class ServerEvent(Struct, frozen=True, gc=False):
    """One event of a stream: a name where the dialect has names, and data without a newline.

    A `mark` says only that the stream is over: framings that have an end of their own drop it.
    A `comment` says nothing but that the connection lives: framings without comments drop it.
    """

    data: bytes
    name: str | None = None
    mark: bool = False
    comment: bool = False


COMMENT = ServerEvent(b"", comment=True)


class StreamEncoder(Protocol):
    """A dialect's stream: fed the events of one answer in order, it says what to send."""

    def encode(self, event: Event) -> Iterable[ServerEvent]: ...


@dataclass(frozen=True, slots=True)
class CountDialect:
    """The way to read a conversation that is only to be counted, and to say its tokens."""

    decode_request: Callable[[bytes], Chat]
    encode_response: Callable[[int], bytes]
    operation: Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The way to read requests and write answers, whole or streamed; decoders raise Refusal.

    The inverse, for servers that are asked in a dialect, is `upstream.upstream.Upstream`.
    """

    prefix: str  # of an answer's id
    decode_request: Callable[[bytes], GenerateRequest]
    encode_response: Callable[[Answer, Identity], bytes]
    stream: Callable[[Identity, GenerationOptions], StreamEncoder]
    encode_error: Callable[[Refusal, str | None], bytes]  # with the request's id, where it has one
    operation: Operation
    framing: Framing = "sse"
    formats: bool = False  # whether a request, or the server's setting, may choose another framing
    count: CountDialect | None = None
