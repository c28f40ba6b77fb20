"""OpenAI's responses: the events of an answer to bodies and to the events of a stream."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from .chat import (
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Event,
    Failure,
    Finish,
    Heartbeat,
    Identity,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    TokenText,
    ToolCallBegun,
)
from .custom_input import InputReader
from .dialect import ServerEvent
from .openai_chat import token_logprob
from .openai_responses_body import (
    EMPTY,
    CustomItem,
    ErrorBody,
    FunctionItem,
    IncompleteDetails,
    MessageItem,
    OutputItem,
    OutputText,
    Piece,
    ReasoningItem,
    Status,
    SummaryText,
    ThoughtText,
    encode_json,
    response_body,
    usage_body,
)
from .openai_responses_items import DIALECT, new_id, sealed
from .openai_responses_request import SEALED_THOUGHTS, DecodedRequest
from .openai_responses_tools import CallTarget
from .origin import carried
from .parts import SignedThought

GRAIN = 16  # bytes that a delta with obfuscation is a multiple of
# The codes that a response's error can have, by the status of the refusal; else server_error.
CODES = {400: "invalid_prompt", 413: "invalid_prompt", 429: "rate_limit_exceeded"}
# Ends of answers that are not whole.
CUT = {"length": "max_output_tokens", "refusal": "content_filter"}

Pieces = Iterator[Piece]


class OpenItem(ABC):
    """An item of the output that is being written; `body` is how it stands, with a status."""

    def __init__(self, kind: str) -> None:
        self.id = new_id(kind)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def opened(self) -> Pieces:
        """Yield what comes after the item's own event."""
        yield from ()

    def add(self, text: str, logprobs: Raw = EMPTY) -> Pieces:
        self._pieces.append(text)
        yield self.delta(text, logprobs)

    @abstractmethod
    def delta(self, text: str, logprobs: Raw) -> Piece: ...

    @abstractmethod
    def closed(self) -> Pieces:
        """Yield what comes before the item's own event."""

    @abstractmethod
    def body(self, status: str) -> OutputItem: ...

    @property
    def whole(self) -> bool:
        return True

    def ended(self, status: str) -> str:
        """Return the status of the item in an answer that ended with this one."""
        return status


class OpenMessage(OpenItem):
    def __init__(self) -> None:
        super().__init__("message")
        self._logprobs: list[bytes] = []

    @property
    def _part(self) -> OutputText:
        return OutputText(self.text, EMPTY, Raw(b"[%b]" % b",".join(self._logprobs)))

    def opened(self) -> Pieces:
        yield Piece(type="response.content_part.added", content_index=0, part=OutputText())

    def delta(self, text: str, logprobs: Raw) -> Piece:
        if inside := bytes(logprobs)[1:-1]:
            self._logprobs.append(inside)
        kind = "response.output_text.delta"
        return Piece(type=kind, content_index=0, delta=text, logprobs=logprobs)

    def closed(self) -> Pieces:
        part, kind = self._part, "response.output_text.done"
        yield Piece(type=kind, content_index=0, text=part.text, logprobs=part.logprobs)
        yield Piece(type="response.content_part.done", content_index=0, part=part)

    def body(self, status: str) -> MessageItem:
        return MessageItem(self.id, status, (self._part,) if status != "in_progress" else ())


class OpenThought(OpenItem):
    """A thought, as a text or as the summary that a client asked for, which is all of it."""

    def __init__(self, summarizes: bool, seals: bool) -> None:
        super().__init__("reasoning")
        self._summarizes, self._seals = summarizes, seals
        self._signature = ""

    def sign(self, signature: str) -> None:
        """Note what another server signed it with, which goes to its client in any case."""
        self._signature = signature

    def _event(self, name: str, **fields: Any) -> Piece:
        if self._summarizes:
            return Piece(type=f"response.reasoning_summary_{name}", summary_index=0, **fields)
        start = "reasoning_" if name.startswith("text") else "content_"
        return Piece(type=f"response.{start}{name}", content_index=0, **fields)

    def _part(self, text: str) -> SummaryText | ThoughtText:
        return SummaryText(text) if self._summarizes else ThoughtText(text)

    def opened(self) -> Pieces:
        yield self._event("part.added", part=self._part(""))

    def delta(self, text: str, logprobs: Raw) -> Piece:
        return self._event("text.delta", delta=text)

    def closed(self) -> Pieces:
        yield self._event("text.done", text=self.text)
        yield self._event("part.done", part=self._part(self.text))

    def body(self, status: str) -> ReasoningItem:
        item = ReasoningItem(self.id, status)
        if status != "in_progress" and self._summarizes:
            item.summary = (SummaryText(self.text),)
        elif status != "in_progress":
            item.content = (ThoughtText(self.text),)
        if self._signature or self._seals:
            seal = self._signature or sealed(self.text)
            item.encrypted_content = seal if status != "in_progress" else ""
        return item


class OpenRedacted(OpenItem):
    """A thought of another server's that nobody else can read."""

    def __init__(self, signature: str) -> None:
        super().__init__("reasoning")
        self._signature = signature

    def delta(self, text: str, logprobs: Raw) -> Piece:
        raise AssertionError("there is no text")

    def closed(self) -> Pieces:
        yield from ()

    def body(self, status: str) -> ReasoningItem:
        seal = self._signature if status != "in_progress" else ""
        return ReasoningItem(self.id, status, encrypted_content=seal)


class OpenCall(OpenItem):
    """A call of a function, whose arguments are JSON."""

    kind: ClassVar[str] = "function_call"

    def __init__(self, call_id: str, target: CallTarget) -> None:
        super().__init__(self.kind)
        self._call_id, self._name = call_id, target.name
        self._namespace = target.namespace or UNSET

    def delta(self, text: str, logprobs: Raw) -> Piece:
        return Piece(type="response.function_call_arguments.delta", delta=text)

    def closed(self) -> Pieces:
        kind = "response.function_call_arguments.done"
        yield Piece(type=kind, arguments=self.text or "{}")

    def body(self, status: str) -> OutputItem:
        text = (self.text or "{}") if status != "in_progress" else ""
        about = self.id, status, self._call_id, self._name
        return FunctionItem(*about, text, self._namespace)

    @property
    def whole(self) -> bool:
        return is_json(self.text or "{}")

    def ended(self, status: str) -> str:
        return "completed" if self.whole else "incomplete"


class OpenCustomCall(OpenCall):
    """A call of a tool of free text, which the model writes as the one argument of a function."""

    kind: ClassVar[str] = "custom_tool_call"

    def __init__(self, call_id: str, target: CallTarget) -> None:
        super().__init__(call_id, target)
        self._reader = InputReader()

    def add(self, text: str, logprobs: Raw = EMPTY) -> Pieces:
        if piece := self._reader.feed(text):
            yield from super().add(piece)

    def delta(self, text: str, logprobs: Raw) -> Piece:
        return Piece(type="response.custom_tool_call_input.delta", delta=text)

    def closed(self) -> Pieces:
        if rest := self._reader.rest():
            yield from super().add(rest)
        yield Piece(type="response.custom_tool_call_input.done", input=self.text)

    def body(self, status: str) -> CustomItem:
        text = self.text if status != "in_progress" else ""
        return CustomItem(self.id, status, self._call_id, self._name, text, self._namespace)

    @property
    def whole(self) -> bool:
        return is_json(self._reader.written)


def is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except ValueError:
        return False
    return True


class ResponseWriter:
    """A writer of one response: fed the events of an answer, it says those of a stream.

    `body` is the response as it stands; `now` tells the time in Unix seconds.
    """

    def __init__(
        self, request: DecodedRequest, identity: Identity, stored: bool, now: Callable[[], float]
    ) -> None:
        self._request, self._now = request, now
        self.body = response_body(request, identity, stored)
        self._number = 0
        self._items: list[OutputItem] = []
        self._open: OpenItem | None = None
        self._cut = ""  # why the answer is not whole

    @property
    def over(self) -> bool:
        return self.body.status not in ("queued", "in_progress")

    def queue(self) -> list[Piece]:
        """Say that the response will be made in the background."""
        self.body.status = "queued"
        return self._numbered([self._lifecycle("created"), self._lifecycle("queued")])

    def add(self, event: Event) -> list[Piece]:
        """Return the events that one of the answer's brings; none once the response is over."""
        handler = self.handlers.get(type(event))
        return [] if handler is None or self.over else self._numbered(handler(self, event))

    def cancel(self) -> list[Piece]:
        """End the response because its client asked for that."""
        self._end("cancelled")
        return self._numbered([_error_event("cancelled", "The response was cancelled.")])

    # What events bring.

    def _started(self, event: Event) -> Pieces:
        """Say that it begins; a sign of life says so again."""
        if not self._number:
            yield self._lifecycle("created")
        self.body.status = "in_progress"
        yield self._lifecycle("in_progress")

    def _text_delta(self, event: TextDelta) -> Pieces:
        if event.text or event.tokens:
            item = self._open
            if not isinstance(item, OpenMessage):
                yield from self._switch(item := OpenMessage())
            yield from self._placed(item.add(event.text, _logprobs(event.tokens)))

    def _reasoning_delta(self, event: ReasoningDelta) -> Pieces:
        if event.text:
            item = self._open
            if not isinstance(item, OpenThought):
                seals = SEALED_THOUGHTS in self._request.includes
                item = OpenThought(self._request.summarizes, seals)
                yield from self._switch(item)
            yield from self._placed(item.add(event.text))

    def _signed(self, event: ThoughtSigned) -> Pieces:
        """Sign the thought that is open, which is over; another one is nothing but this."""
        open_thought = self._open if isinstance(self._open, OpenThought) else None
        omitted = open_thought is None and not event.redacted
        signature = carried(SignedThought("", event.signature, event.origin, omitted), DIALECT)
        if open_thought is None or event.redacted:
            yield from self._switch(OpenRedacted(signature))
        else:
            open_thought.sign(signature)
        yield from self._close("completed")

    def _tool_call(self, event: ToolCallBegun) -> Pieces:
        # Another server's model may call what it was told nothing of.
        target = self._request.targets.get(event.name) or CallTarget("function", event.name)
        call = OpenCustomCall if target.kind == "custom" else OpenCall
        yield from self._switch(call(event.id, target))

    def _arguments(self, event: ArgumentsDelta) -> Pieces:
        assert self._open is not None, "arguments come after their call"
        yield from self._placed(self._open.add(event.text))

    def _finish(self, event: Finish) -> Pieces:
        self._cut = CUT.get(event.reason, "")
        thought = isinstance(self._open, OpenThought) and not self._cut
        if self._open is None or thought:  # a whole answer has a text, if only an empty one
            yield from self._switch(OpenMessage())
        yield from self._close("incomplete" if self._cut else "completed")

    def _done(self, event: Done) -> Pieces:
        status: Status = "incomplete" if self._cut else "completed"
        self.body.usage = usage_body(event.usage)
        if self._cut:
            self.body.incomplete_details = IncompleteDetails(self._cut)
        self._end(status)
        yield self._lifecycle(status)

    def _failure(self, event: Failure) -> Pieces:
        refusal = event.refusal
        if not self._number:
            yield self._lifecycle("created")
        yield _error_event(refusal.code, refusal.message, refusal.field)
        self.body.error = ErrorBody(CODES.get(refusal.status, "server_error"), refusal.message)
        self._end("failed")
        yield self._lifecycle("failed")

    handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], Iterable[Piece]]]] = {
        AnswerStarted: _started,
        Heartbeat: _started,
        TextDelta: _text_delta,
        ReasoningDelta: _reasoning_delta,
        ThoughtSigned: _signed,
        ToolCallBegun: _tool_call,
        ArgumentsDelta: _arguments,
        Finish: _finish,
        Done: _done,
        Failure: _failure,
    }

    def _lifecycle(self, name: str) -> Piece:
        """Return an event with the response as it stands, which goes on to change."""
        return Piece(type=f"response.{name}", response=replace(self.body))

    def _switch(self, item: OpenItem) -> Pieces:
        """Close the item that is open, and open another."""
        yield from self._close("completed")
        self._open = item
        body = item.body("in_progress")
        at = len(self._items)
        yield Piece(type="response.output_item.added", output_index=at, item=body)
        yield from self._placed(item.opened())

    def _close(self, status: str) -> Pieces:
        """Close the item that is open; a call that broke off stays without an end."""
        if (item := self._open) is None:
            return
        if item.whole:
            yield from self._placed(item.closed())
        body = item.body(item.ended(status))
        if item.whole:
            at = len(self._items)
            yield Piece(type="response.output_item.done", output_index=at, item=body)
        self._open = None
        self._items.append(body)

    def _placed(self, pieces: Pieces) -> Pieces:
        """Say of events to which item they belong: the one that is open."""
        for piece in pieces:
            assert self._open is not None
            piece.item_id, piece.output_index = self._open.id, len(self._items)
            yield piece

    def _numbered(self, pieces: Iterable[Piece]) -> list[Piece]:
        numbered = list[Piece]()
        options = self._request.fields.stream_options
        for piece in pieces:
            piece.sequence_number = self._number
            self._number += 1
            if options and options.include_obfuscation and isinstance(piece.delta, str):
                piece.obfuscation = secrets.token_hex(GRAIN)[: -len(piece.delta) % GRAIN]
            numbered.append(piece)
        return numbered

    def _end(self, status: Status) -> None:
        """Note the response as it is in the end; whole answers have no calls that broke off."""
        if self._open is not None:
            self._items.append(self._open.body("incomplete"))
            self._open = None
        items = self._items if self._request.stream else filter(_is_kept, self._items)
        self.body.output, self.body.status = tuple(items), status
        self.body.completed_at = int(self._now()) if status == "completed" else None


def encode_piece(piece: Piece) -> ServerEvent:
    return ServerEvent(encode_json(piece), piece.type)


def _is_kept(item: OutputItem) -> bool:
    calls = FunctionItem | CustomItem
    return not isinstance(item, calls) or item.status == "completed"


def _error_event(code: str, message: str, param: str | None = None) -> Piece:
    return Piece(type="error", code=code, message=message, param=param)


def _logprobs(tokens: tuple[TokenText, ...]) -> Raw:
    return Raw(encode_json(tuple(map(token_logprob, tokens)))) if tokens else EMPTY
