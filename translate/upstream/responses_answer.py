"""Answers of OpenAI's Responses API, whole and streamed: their items to events.

What its servers' own tools did is not told, as nobody asks for these in another dialect; what they
found is in the text, with its citations.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct, ValidationError

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
from .logprobs import Logprob, tokens_of
from .refusals import Error
from .refusals import told as refused

END = b"[DONE]"  # what chat completions end with, and some servers of this
BETWEEN = "\n\n"  # parts of a thought
# Why an answer is not whole -> how it ended.
CUT: Mapping[str | None, str] = {"max_output_tokens": "length", "content_filter": "refusal"}
OPENED = "response.output_item.added"
CALLS = ("function_call", "custom_tool_call")
ITEMS = ("message", "reasoning", *CALLS)


class Annotation(Struct):
    """Where a text is from: a page of the web, or a file."""

    url: str | None = None
    title: str | None = None
    filename: str | None = None

    def mark(self, text: str) -> str:
        """Return the citation as a text, unless the text that it is of has it already."""
        if self.url:
            return "" if self.url in text else f" [{self.title or self.url}]({self.url})"
        return f" [{self.filename}]" if self.filename and self.filename not in text else ""


class Part(Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Annotation] | None = None
    logprobs: list[Logprob] | None = None


class Item(Struct):
    type: str = ""
    id: str | None = None
    content: list[Part] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    input: str = ""


class Cached(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class Thought(Struct):
    reasoning_tokens: int = 0


class Counts(Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: Cached | None = None
    output_tokens_details: Thought | None = None

    @property
    def usage(self) -> Usage:
        cached = self.input_tokens_details or Cached()
        thought = (self.output_tokens_details or Thought()).reasoning_tokens
        about = self.input_tokens, self.output_tokens, cached.cached_tokens or 0, thought
        return Usage(*about, created=cached.cache_write_tokens)


class Incomplete(Struct):
    reason: str | None = None


class Response(Struct):
    status: str = "completed"
    output: list[Raw] | None = None
    usage: Counts | None = None
    error: Error | None = None
    incomplete_details: Incomplete | None = None
    object: str = ""


class Told(Struct):
    """An event of a stream, which has what its type has of these."""

    response: Response | None = None
    item: Raw = Raw()
    output_index: int | None = None
    content_index: int = 0
    summary_index: int = 0
    delta: str = ""
    logprobs: list[Logprob] | None = None
    annotation: Annotation | None = None
    error: Error | None = None
    message: str = ""
    code: str | int | None = None
    param: str | None = None


class Kind(Struct):
    type: str = ""


RESPONSE, TOLD = msgspec.json.Decoder(Response), msgspec.json.Decoder(Told)
ITEM, KIND = msgspec.json.Decoder(Item), msgspec.json.Decoder(Kind)


@dataclass(slots=True)
class Open:
    """What was told of an item so far."""

    call: int = -1
    text: list[str] = field(default_factory=list)  # of its text, thought or arguments
    section: tuple[str, int] | None = None  # the part of a thought that came last
    marks: list[Annotation] = field(default_factory=list)
    over: bool = False


class Items:
    """The items of one answer to events, in pieces or whole; nothing is told twice."""

    def __init__(self) -> None:
        self._items: dict[int, Open] = {}
        self._calls = 0
        self._refused = False

    def _at(self, index: int) -> Open:
        return self._items.setdefault(index, Open())

    def open(self, index: int, raw: Raw) -> Iterator[Event]:
        """Open an item; of other types nothing is told."""
        kind = _kind(raw)
        if kind not in ITEMS:
            return
        opened = self._at(index)
        if kind in CALLS and opened.call < 0:
            item = ITEM.decode(raw)
            opened.call, self._calls = self._calls, self._calls + 1
            yield ToolCallBegun(0, opened.call, item.call_id or item.id or "", item.name)

    def add_text(self, index: int, text: str, tokens: list[Logprob] | None) -> Iterator[Event]:
        if text or tokens:
            self._at(index).text.append(text)
            yield TextDelta(0, text, tokens_of(tokens))

    def add_refusal(self, index: int, text: str) -> Iterator[Event]:
        self._refused = True
        yield from self.add_text(index, text, None)

    def add_thought(self, index: int, text: str, section: tuple[str, int]) -> Iterator[Event]:
        """Add to a thought, of which there may be both the whole and a summary: one is told."""
        opened = self._at(index)
        last = opened.section or section
        if not text or section[0] != last[0]:
            return
        between = BETWEEN if opened.text and section != last else ""
        opened.section = section
        opened.text.append(text)
        yield ReasoningDelta(0, between + text)

    def add_arguments(self, index: int, text: str) -> Iterator[Event]:
        opened = self._at(index)
        if text and opened.call >= 0:
            opened.text.append(text)
            yield ArgumentsDelta(0, opened.call, text)

    def cite(self, index: int, annotation: Annotation) -> None:
        self._at(index).marks.append(annotation)

    def close(self, index: int, raw: Raw) -> Iterator[Event]:
        """Tell what an item has that was not told in pieces."""
        kind = _kind(raw)
        if kind not in ITEMS or (opened := self._at(index)).over:
            return
        yield from self.open(index, raw)
        opened.over = True
        yield from self._closers[kind](self, index, opened, ITEM.decode(raw))

    def _message(self, index: int, opened: Open, item: Item) -> Iterator[Event]:
        untold, marks = not opened.text, opened.marks
        for part in item.content or () if untold else ():
            yield from self.add_text(index, part.text or "", part.logprobs)
            if part.refusal:
                yield from self.add_refusal(index, part.refusal)
        marks = marks or [each for part in item.content or () for each in part.annotations or ()]
        text = "".join(opened.text)
        cited = dict.fromkeys(each.mark(text) for each in marks)
        yield from self.add_text(index, "".join(cited), None)

    def _reasoning(self, index: int, opened: Open, item: Item) -> Iterator[Event]:
        parts = [("content", part) for part in item.content or ()]
        parts = parts or [("summary", part) for part in item.summary or ()]
        for at, (kind, part) in enumerate(parts if not opened.text else ()):
            yield from self.add_thought(index, part.text or "", (kind, at))
        if item.encrypted_content:
            redacted = not opened.text
            yield ThoughtSigned(0, item.encrypted_content, redacted, "responses")

    def _function_call(self, index: int, opened: Open, item: Item) -> Iterator[Event]:
        if not opened.text:
            yield from self.add_arguments(index, item.arguments or "{}")

    def _custom_call(self, index: int, opened: Open, item: Item) -> Iterator[Event]:
        """Tell of a call whose argument is a text, as the function's of one text that it is."""
        yield from self.add_arguments(index, msgspec.json.encode({"input": item.input}).decode())

    _closers: ClassVar[Mapping[str, Callable[[Any, int, Open, Item], Iterator[Event]]]] = {
        "message": _message,
        "reasoning": _reasoning,
        "function_call": _function_call,
        "custom_tool_call": _custom_call,
    }

    def end(self, response: Response) -> Iterator[Event]:
        """End the answer. Raises Refusal for one that failed.

        Its items are told of where no event told of any, and the rest of those that are not over.
        """
        if response.status in ("failed", "cancelled"):
            usual = f"The response is {response.status}."
            raise refused(response.error or Error(usual, code="server_error"))
        output = response.output or []
        told_of = {*self._items} or {*range(len(output))}
        for index, raw in enumerate(output):
            if index in told_of:
                yield from self.close(index, raw)
        usual = "refusal" if self._refused else "tool_calls" if self._calls else "stop"
        details = response.incomplete_details or Incomplete()
        cut = CUT.get(details.reason, "length") if response.status == "incomplete" else usual
        yield Finish(0, cut)
        yield Done((response.usage or Counts()).usage)


def decode_response(body: bytes) -> Sequence[Event]:
    """Return the events of a whole answer. Raises ValueError for what is none, or Refusal."""
    response = RESPONSE.decode(body)
    if response.object != "response":
        raise ValueError("this is no response of OpenAI's")
    ends = [*Items().end(response)]
    return (AnswerStarted((response.usage or Counts()).usage), *ends)


class AnswerDecoder:
    """A decoder of a stream."""

    def __init__(self) -> None:
        self.over = False
        self._items = Items()
        self._started = self._in_progress = False
        self._newest = -1  # item, where an event does not say of which it is

    def decode(self, event: ServerEvent) -> Iterable[Event]:
        """Return what an event means; one of another type means nothing."""
        if self.over or not event.data or event.data == END:
            return ()
        kind = KIND.decode(event.data).type or event.name or ""
        if kind not in self.handlers:
            return ()
        try:
            told = TOLD.decode(event.data)
            self._newest = index = self._place(kind, told)
            out = [*self.handlers[kind](self, told, index)]
        except ValidationError as error:
            raise ValueError(f"the event {kind} is none of OpenAI's: {error}") from None
        if self._started or not (out or kind == "response.created"):
            return out
        self._started = True
        return (AnswerStarted(Usage(0, 0)), *out)

    def _place(self, kind: str, event: Told) -> int:
        if event.output_index is not None:
            return event.output_index
        return self._newest + (kind == OPENED)

    def _created(self, event: Told, index: int) -> Iterable[Event]:
        return ()

    def _progress(self, event: Told, index: int) -> Iterable[Event]:
        """Take the first as part of the beginning; others say that the connection lives."""
        before, self._in_progress = self._in_progress, True
        return (Heartbeat(),) if before else ()

    def _opened(self, event: Told, index: int) -> Iterable[Event]:
        return self._items.open(index, event.item)

    def _closed(self, event: Told, index: int) -> Iterable[Event]:
        return self._items.close(index, event.item)

    def _text(self, event: Told, index: int) -> Iterable[Event]:
        return self._items.add_text(index, event.delta, event.logprobs)

    def _refusal(self, event: Told, index: int) -> Iterable[Event]:
        return self._items.add_refusal(index, event.delta)

    def _summary(self, event: Told, index: int) -> Iterable[Event]:
        return self._items.add_thought(index, event.delta, ("summary", event.summary_index))

    def _thought(self, event: Told, index: int) -> Iterable[Event]:
        return self._items.add_thought(index, event.delta, ("content", event.content_index))

    def _arguments(self, event: Told, index: int) -> Iterable[Event]:
        return self._items.add_arguments(index, event.delta)

    def _annotation(self, event: Told, index: int) -> Iterable[Event]:
        self._items.cite(index, event.annotation or Annotation())
        return ()

    def _ended(self, event: Told, index: int) -> Iterable[Event]:
        self.over = True
        return self._items.end(event.response or Response())

    def _error(self, event: Told, index: int) -> Iterable[Event]:
        code, param = event.code, event.param
        raise refused(event.error or Error(event.message, code=code, param=param))

    handlers: ClassVar[Mapping[str, Callable[[Any, Told, int], Iterable[Event]]]] = {
        "response.created": _created,
        "response.in_progress": _progress,
        "keepalive": _progress,
        OPENED: _opened,
        "response.output_item.done": _closed,
        "response.output_text.delta": _text,
        "response.output_text.annotation.added": _annotation,
        "response.refusal.delta": _refusal,
        "response.reasoning_summary_text.delta": _summary,
        "response.reasoning_text.delta": _thought,
        "response.function_call_arguments.delta": _arguments,
        "response.completed": _ended,
        "response.incomplete": _ended,
        "response.failed": _ended,
        "error": _error,
    }


def _kind(raw: Raw) -> str:
    """Return the type of an item; of some servers' there is none."""
    return KIND.decode(raw).type if bytes(raw) not in (b"", b"null") else ""
