"""Answers of chat completions, whole and streamed, as OpenAI's and many other servers give them."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Raw, Struct, ValidationError

from ..chat import (
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Event,
    Finish,
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

END = b"[DONE]"
REASONS: Mapping[str, str] = {
    "stop": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
    "refusal": "refusal",
}


class Logprobs(Struct):
    content: list[Logprob] | None = None
    refusal: list[Logprob] | None = None


class Function(Struct):
    name: str | None = None
    arguments: str | dict[str, Raw] | None = None

    @property
    def written(self) -> str:
        """The arguments as a text; Ollama's older versions send an object."""
        if isinstance(self.arguments, dict):
            return msgspec.json.encode(self.arguments).decode()
        return self.arguments or ""


class Call(Struct):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: Raw = Raw()


class Detail(Struct):
    """A thought, or a part of one, as OpenRouter has it."""

    type: str = ""
    text: str | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None


class Part(Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    thinking: Raw = Raw()  # Mistral's: a list of texts


class Message(Struct):
    """A message, or what is new of one."""

    content: str | list[Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Detail] | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


class Choice(Struct):
    index: int = 0
    message: Message | None = None
    delta: Message | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None  # vLLM's: the stop string that was met
    logprobs: Logprobs | None = None
    error: Error | str | None = None  # OpenRouter's: of one answer alone


class PromptDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class Counts(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's
    cached_tokens: int | None = None  # Moonshot's

    @property
    def usage(self) -> Usage:
        prompt = self.prompt_tokens_details or PromptDetails()
        completion = self.completion_tokens_details or CompletionDetails()
        return Usage(
            self.prompt_tokens or 0,
            self.completion_tokens or 0,
            prompt.cached_tokens or self.prompt_cache_hit_tokens or self.cached_tokens or 0,
            completion.reasoning_tokens or 0,
            created=prompt.cache_write_tokens,
        )


class Body(Struct):
    """A completion, or a chunk of one."""

    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Error | str | None = None


BODY = msgspec.json.Decoder(Body)
Spoken = Literal["text", "reasoning"]


class ChoiceDecoder:
    """The events of one choice, from its whole message or from one that is new after the other."""

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._calls: list[tuple[int | None, str]] = []  # their numbers and ids, in order
        self.reason: str | None = None
        self._stop: str | None = None
        self._named = False  # whether thoughts have a name of their own beside their details

    def read(self, choice: Choice) -> Iterator[Event]:
        if choice.error is not None:
            raise _refused(choice.error)
        message = choice.delta or choice.message or Message()
        told = choice.logprobs or Logprobs()
        tokens = tokens_of(told.content or told.refusal)
        yield from self._thoughts(message)
        for kind, text in _said(message):
            made = ReasoningDelta if kind == "reasoning" else TextDelta
            yield made(self._choice, text, tokens)
            tokens = ()
        for call in message.tool_calls or ():
            yield from self._call(call)
        if message.function_call is not None:
            yield from self._call(Call(0, "", message.function_call))
        if choice.finish_reason:
            self.reason = choice.finish_reason
            self._stop = choice.stop_reason if isinstance(choice.stop_reason, str) else None

    def _thoughts(self, message: Message) -> Iterator[Event]:
        """Yield thoughts; servers that tell of them by several names say the same by each.

        What is told of a thought by its end, with its signature, may have been told before.
        """
        details = message.reasoning_details or []
        texts = [each.text or each.summary or "" for each in details]
        named = message.reasoning_content or message.reasoning
        self._named = self._named or bool(named)
        if self._named and named != "".join(texts):
            yield from self._thought(named or "")
            texts = [""] * len(details)
        for each, part in zip(details, texts, strict=True):
            yield from self._thought(part)
            if each.data:
                yield ThoughtSigned(self._choice, each.data, redacted=True, origin="openai")
            elif each.signature:
                yield ThoughtSigned(self._choice, each.signature, origin="openai")

    def _thought(self, text: str) -> Iterator[Event]:
        if text:
            yield ReasoningDelta(self._choice, text)

    def _call(self, call: Call) -> Iterator[Event]:
        """Yield what is new of a call: the first that is told of one has its name."""
        function = call.function or Function()
        place = self._place(call)
        if place is None:
            if not function.name:
                raise ValueError("a tool call has no name")
            place = len(self._calls)
            self._calls.append((call.index, call.id or ""))
            id = call.id or f"call_{secrets.token_hex(12)}"
            yield ToolCallBegun(self._choice, place, id, function.name)
        if function.written:
            yield ArgumentsDelta(self._choice, place, function.written)

    def _place(self, call: Call) -> int | None:
        """Return which of the calls one is; a whole one without a number is always new.

        So is one with a name and an id of its own: Gemini's have all the same number.
        """
        named = call.function is not None and call.function.name
        if call.index is None and not call.id:
            return None if named or not self._calls else len(self._calls) - 1
        fresh = bool(call.id) and (named or call.index is None)
        same = [
            place
            for place, (index, id) in enumerate(self._calls)
            if call.index in (None, index) and (not fresh or id == call.id or not (id or named))
        ]
        if same or named or call.index is not None:
            return same[-1] if same else None
        return len(self._calls) - 1 if self._calls else None

    def finish(self) -> Finish:
        reason = REASONS.get(self.reason or "stop", "stop")
        if reason == "stop" and self._calls:
            reason = "tool_calls"  # some servers say stop
        return Finish(self._choice, reason, self._stop)


def _said(message: Message) -> Iterator[tuple[Spoken, str]]:
    if isinstance(message.content, str) and message.content:
        yield "text", message.content
    for part in message.content if isinstance(message.content, list) else ():
        if part.thinking:
            thought = msgspec.json.decode(part.thinking, type=str | list[Part])
            texts = [thought] if isinstance(thought, str) else [each.text or "" for each in thought]
            if text := "".join(texts):
                yield "reasoning", text
        elif text := part.text or part.refusal or "":
            yield "text", text
    if message.refusal:
        yield "text", message.refusal


def decode_response(body: bytes) -> Sequence[Event]:
    """Return the events of a whole answer. Raises ValueError for what is none, or Refusal."""
    sent = BODY.decode(body)
    if sent.error is not None:
        raise _refused(sent.error)
    if not sent.choices:
        raise ValueError("this is no chat completion: it has no choices")
    usage = (sent.usage or Counts()).usage
    events: list[Event] = [AnswerStarted(usage, len(sent.choices))]
    for number, choice in enumerate(sorted(sent.choices, key=lambda each: each.index)):
        decoder = ChoiceDecoder(number)
        events += decoder.read(choice)
        events.append(decoder.finish())
    return (*events, Done(usage))


class AnswerDecoder:
    """A decoder of a stream.

    It is over with the mark that says so, or with the tokens of all that was finished.
    """

    def __init__(self) -> None:
        self.over = False
        self._started = False
        self._counts = Counts()
        self._choices: dict[int, ChoiceDecoder] = {}

    def decode(self, event: ServerEvent) -> Iterable[Event]:
        """Return what an event means."""
        if self.over or not event.data:
            return ()
        if event.data.strip() == END:
            return self._end()
        try:
            body = BODY.decode(event.data)
        except ValidationError as error:
            raise ValueError(f"a chunk is none of a chat completion's: {error}") from None
        if body.error is not None:
            raise _refused(body.error)
        self._counts = body.usage or self._counts
        events: list[Event] = []
        if body.choices is not None and not self._started:
            self._started = True
            events.append(AnswerStarted(self._counts.usage))
        for choice in body.choices or ():
            decoder = self._choices.setdefault(choice.index, ChoiceDecoder(choice.index))
            events += decoder.read(choice)
        if not body.choices and body.usage is not None and self._finished:
            events += self._end()
        return events

    @property
    def _finished(self) -> bool:
        choices = self._choices.values()
        return bool(choices) and all(choice.reason for choice in choices)

    def _end(self) -> Sequence[Event]:
        """Return the end of all that was begun. Raises ValueError where nothing was."""
        if not self._choices:
            raise ValueError("its stream ended before anything was said")
        self.over = True
        choices = sorted(self._choices.items())
        return (*(choice.finish() for _, choice in choices), Done(self._counts.usage))


def _refused(error: Error | str) -> Exception:
    return refused(error if isinstance(error, Error) else Error(error))
