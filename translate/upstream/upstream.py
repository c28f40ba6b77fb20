"""An upstream: one record of all that must be known to ask another server in its dialect."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ...engine.request import Refusal
from ..chat import Chat, Event
from ..dialect import ServerEvent

# A server's formats as settings name them; "openai" is chat completions.
Format = Literal["openai", "responses", "anthropic", "ollama"]


def bearer(key: str) -> tuple[bytes, bytes]:
    """Return the header that carries a key to most servers."""
    return b"authorization", b"Bearer " + key.encode()


class StreamDecoder(Protocol):
    """A stream of an answer: fed what was sent, event by event, it says what that means.

    Events come in the order of `Backend.events`, from AnswerStarted to Done. Raises Refusal for an
    error that the stream tells, and a ValueError for what is none of the dialect's events.
    """

    over: bool  # whether the answer is whole: no more is to come

    def decode(self, event: ServerEvent) -> Iterable[Event]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The way to ask in a dialect, and to read answers, whole or streamed.

    `encode_request` takes a conversation whose `model` is the server's name for it, and streams
    where its options say so; what the dialect cannot say it refuses by the field, unless it may be
    left out: `lossy`. `decode_response` raises a ValueError for what is no answer. `decode_error`
    reads a body by its status, whatever it is.
    """

    format: Format
    path: str  # of what answers a conversation, after a base URL that ends before it
    framing: Literal["sse", "ndjson"]
    headers: Mapping[bytes, bytes]  # sent with every request, where the client sends none such
    authorization: Callable[[str], tuple[bytes, bytes]]  # the header that carries a key
    encode_request: Callable[[Chat, bool], bytes]
    decode_response: Callable[[bytes], Sequence[Event]]
    stream: Callable[[], StreamDecoder]
    decode_error: Callable[[int, bytes], Refusal]
