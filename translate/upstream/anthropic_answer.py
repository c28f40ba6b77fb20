"""Answers of Anthropic's Messages API, whole and streamed: their blocks to events.

What its servers' own tools did is not told, as nobody asks for these in another dialect; what they
found is in the text, with its citations.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct, ValidationError, structs

from ..chat import (
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Event,
    Finish,
    Heartbeat,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    ToolCallBegun,
    Usage,
)
from ..dialect import ServerEvent
from .refusals import Error, told

REASONS: Mapping[str | None, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
EMPTY = (b"", b"null")
END = b"[DONE]"  # what servers of OpenAI's dialects end with, and some of this


class Citation(Struct):
    """Where a text is from: a page of the web, a result of a search, or a document."""

    title: str | None = None
    document_title: str | None = None
    url: str | None = None
    source: str | None = None
    document_index: int | None = None
    start_page_number: int | None = None

    @property
    def mark(self) -> str:
        """The citation as a text, behind what it is of."""
        if self.url:
            return f" [{self.title or self.url}]({self.url})"
        about = self.document_title or self.title or self.source
        name = about or f"document {(self.document_index or 0) + 1}"
        return f" [{name}{f', p. {self.start_page_number}' if self.start_page_number else ''}]"


class Details(Struct, frozen=True):
    thinking_tokens: int = 0


class Counts(Struct, frozen=True):
    """The tokens so far; what an event does not tell stays as it was."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: Details | None = None

    def merged(self, newer: "Counts") -> "Counts":
        told = {key: each for key, each in structs.asdict(newer).items() if each is not None}
        return structs.replace(self, **told)

    @property
    def usage(self) -> Usage:
        cached, created = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens
        prompt = (self.input_tokens or 0) + cached + (created or 0)
        thought = (self.output_tokens_details or Details()).thinking_tokens
        return Usage(prompt, self.output_tokens or 0, cached, thought, created=created)


class Block(Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str = ""
    id: str = ""
    name: str = ""
    input: Raw = Raw()
    citations: list[Citation] | None = None


class Piece(Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: Citation | None = None


class Explanation(Struct):
    explanation: str | None = None


class Ending(Struct):
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Explanation | None = None


class Message(Ending):
    content: list[Raw] = []
    usage: Counts = Counts()


class Told(Struct):
    """An event of a stream, or a message: what is in it depends on its type."""

    type: str = ""
    index: int = 0
    message: Message | None = None
    content_block: Raw = Raw()
    delta: Raw = Raw()
    usage: Counts | None = None
    error: Error | None = None


class Kind(Struct):
    type: str = ""


MESSAGE = msgspec.json.Decoder(Message)
TOLD = msgspec.json.Decoder(Told)
BLOCK, PIECE = msgspec.json.Decoder(Block), msgspec.json.Decoder(Piece)
KIND, ENDING = msgspec.json.Decoder(Kind), msgspec.json.Decoder(Ending)
BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use")
PIECES = ("text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta")


@dataclass(slots=True)
class Open:
    """A block that is open; of a call with its number."""

    block: Block
    call: int = -1
    signature: str = ""
    written: bool = False  # whether its arguments came in pieces
    marks: list[str] = field(default_factory=list)  # of what its text cites

    def cite(self, citation: Citation) -> None:
        if citation.mark not in self.marks:
            self.marks.append(citation.mark)


class Blocks:
    """The blocks of one answer to events, as they are opened, filled and closed."""

    def __init__(self) -> None:
        self._open: dict[int, Open] = {}
        self.calls = 0

    def open(self, index: int, raw: Raw) -> Iterator[Event]:
        """Open a block, with what it has from the beginning; of other kinds nothing is told."""
        yield from self.close(index)
        if KIND.decode(raw).type not in BLOCKS:
            return
        block = BLOCK.decode(raw)
        opened = self._open[index] = Open(block, signature=block.signature or "")
        for citation in block.citations or ():
            opened.cite(citation)
        if block.type == "tool_use":
            opened.call, self.calls = self.calls, self.calls + 1
            yield ToolCallBegun(0, opened.call, block.id, block.name)
        elif block.type == "redacted_thinking":
            yield ThoughtSigned(0, block.data, redacted=True, origin="anthropic")
        elif block.thinking:
            yield ReasoningDelta(0, block.thinking)
        elif block.text:
            yield TextDelta(0, block.text)

    def add(self, index: int, raw: Raw) -> Iterator[Event]:
        opened = self._open.get(index)
        if opened is None or KIND.decode(raw).type not in PIECES:
            return
        piece = PIECE.decode(raw)
        opened.signature = piece.signature or opened.signature
        if piece.citation is not None:
            opened.cite(piece.citation)
        if piece.text:
            yield TextDelta(0, piece.text)
        elif piece.thinking:
            yield ReasoningDelta(0, piece.thinking)
        elif piece.partial_json:
            opened.written = True
            yield ArgumentsDelta(0, opened.call, piece.partial_json)

    def close(self, index: int) -> Iterator[Event]:
        """Close a block; one that is not open needs nothing."""
        opened = self._open.pop(index, None)
        if opened is None:
            return
        block = opened.block
        if opened.marks:
            yield TextDelta(0, "".join(opened.marks))
        if block.type == "thinking" and opened.signature:
            yield ThoughtSigned(0, opened.signature, origin="anthropic")
        if block.type == "tool_use" and not opened.written:
            whole = bytes(block.input)
            yield ArgumentsDelta(0, opened.call, "{}" if whole in EMPTY else whole.decode())

    def end(self, ending: Ending, counts: Counts) -> Iterator[Event]:
        for index in [*self._open]:
            yield from self.close(index)
        if ending.stop_details and ending.stop_details.explanation:
            yield TextDelta(0, ending.stop_details.explanation)
        usual = "tool_calls" if self.calls else "stop"
        yield Finish(0, REASONS.get(ending.stop_reason, usual), ending.stop_sequence)
        yield Done(counts.usage)


def decode_response(body: bytes) -> Sequence[Event]:
    """Return the events of a whole answer. Raises ValueError for what is none, or Refusal."""
    about = TOLD.decode(body)
    if about.type == "error":
        raise told(about.error or Error())
    message, blocks = MESSAGE.decode(body), Blocks()
    if about.type != "message":
        raise ValueError("this is no message of Anthropic's")
    events: list[Event] = [AnswerStarted(message.usage.usage)]
    for index, raw in enumerate(message.content):
        events += blocks.open(index, raw)
        events += blocks.close(index)
    return (*events, *blocks.end(message, message.usage))


class AnswerDecoder:
    """A decoder of a stream."""

    def __init__(self) -> None:
        self.over = False
        self._blocks = Blocks()
        self._counts = Counts()
        self._ending = Ending()
        self._started = False

    def decode(self, event: ServerEvent) -> Iterable[Event]:
        """Return what an event means; one of another type means nothing."""
        if self.over or not event.data or event.data == END:
            return ()
        kind = KIND.decode(event.data).type or event.name or ""
        if kind not in self.handlers:
            return ()
        try:
            return self._begun(self.handlers[kind](self, TOLD.decode(event.data)))
        except ValidationError as error:
            raise ValueError(f"the event {kind} is none of Anthropic's: {error}") from None

    def _begun(self, events: Iterable[Event]) -> Sequence[Event]:
        """Return events, the first of all being that the answer begins."""
        out = [*events]
        if self._started or not out:
            return out
        self._started = True
        return (AnswerStarted(self._counts.usage), *out)

    def _message_start(self, event: Told) -> Iterable[Event]:
        self._counts = event.message.usage if event.message else Counts()
        self._started = True
        return (AnswerStarted(self._counts.usage),)

    def _block_start(self, event: Told) -> Iterable[Event]:
        return self._blocks.open(event.index, event.content_block)

    def _block_delta(self, event: Told) -> Iterable[Event]:
        return self._blocks.add(event.index, event.delta)

    def _block_stop(self, event: Told) -> Iterable[Event]:
        return self._blocks.close(event.index)

    def _message_delta(self, event: Told) -> Iterable[Event]:
        self._counts = self._counts.merged(event.usage or Counts())
        if bytes(event.delta):
            self._ending = ENDING.decode(event.delta)
        return ()

    def _message_stop(self, event: Told) -> Iterable[Event]:
        self.over = True
        return self._blocks.end(self._ending, self._counts)

    def _ping(self, event: Told) -> Iterable[Event]:
        return (Heartbeat(),) if self._started else ()

    def _error(self, event: Told) -> Iterable[Event]:
        raise told(event.error or Error())

    handlers: ClassVar[Mapping[str, Callable[[Any, Told], Iterable[Event]]]] = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "ping": _ping,
        "error": _error,
    }
