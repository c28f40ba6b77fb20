"""The part that OpenAI's two text dialects share: fields, prompts, usage, chunks, failures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Protocol

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .chat import (
    AnswerStarted,
    Done,
    Event,
    Failure,
    GenerationOptions,
    Heartbeat,
    Identity,
    Progress,
    PromptProgress,
    RankedToken,
    Shortened,
    StreamFormat,
    Timings,
    TokenText,
    Usage,
)
from .decode import invalid, present, shown, unsupported
from .dialect import COMMENT, ServerEvent
from .errors import openai_error
from .parts import Kept, Text
from .sampling import Alternatives, Choices, Positive, TokenId, TokenIds, options
from .structured_output import StructuredFields

Events = tuple[ServerEvent, ...]
Prompts = str | Annotated[list[str | TokenId | TokenIds], Meta(min_length=1)]

encode_json = msgspec.json.Encoder().encode


def filled(body: Struct, **lists: Iterable[Any]) -> bytes:
    """Encode a body whose lists of these names, empty in it, have these items; in order.

    Each is encoded by itself, and they are joined without the interpreter's lock, so that other
    threads wait for none of them, however long a list is.
    """
    parts, rest = list[bytes](), encode_json(body)
    for name, items in lists.items():
        before, _, rest = rest.partition(b'"%b":[]' % name.encode())
        parts += before, b'"%b":' % name.encode()
        comma = b"["
        for item in items:
            parts += comma, encode_json(item)
            comma = b","
        parts.append(b"[]" if comma == b"[" else b"]")
    return b"".join((*parts, rest))


class StreamOptions(Struct, kw_only=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class TextRequest(StructuredFields, kw_only=True):
    model: str | None = None
    n: Choices | None = None
    prompt_logprobs: Alternatives | None = None
    stream_options: StreamOptions | None = None
    stream_format: StreamFormat | None = None
    stream_chunk_size: Positive | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None


class PromptDetails(Struct):
    cached_tokens: int


class CompletionDetails(Struct):
    reasoning_tokens: int


class UsageBody(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    context_overflow: Shortened | UnsetType = UNSET


class TimingsBody(Struct):
    """The speed of an answer, as llama.cpp tells it."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class ProgressBody(Struct):
    """How far a prompt is read, as llama.cpp tells it."""

    total: int
    cache: int
    processed: int
    time_ms: float


class RankedBody(Struct):
    """A token of a prompt, or an alternative to it, as vLLM shows it."""

    logprob: float
    rank: int | None
    decoded_token: str


PromptLogprobsBody = list[dict[int, RankedBody] | None]


class SentPart(Protocol):
    """A part of a content in a request."""

    type: str
    text: str | None
    refusal: str | None


class AnswerBody(Struct):
    """The fields that every body and chunk of one answer repeats."""

    id: str
    created: int
    model: str


TEXT_PARTS = ("text", "input_text", "output_text")
UNBUILT_PARTS = {
    "image": "images but by their addresses",
    "audio_url": "audio input by its address",
    "video_url": "video input",
}
DONE = ServerEvent(b"[DONE]", mark=True)


def text_part(part: SentPart, place: str, usual: str, kept: Kept = "") -> Text:
    """Return a part of a content, which is a text. Raises Refusal, which names the `usual` type."""
    if part.type in UNBUILT_PARTS:
        raise unsupported(f"{place}.type", UNBUILT_PARTS[part.type])
    if part.type == "refusal":
        return Text(present(part.refusal, f"{place}.refusal"), kept)
    if part.type not in TEXT_PARTS:
        raise invalid(f"{place}.type", f"must be {usual}, not {shown(part.type)}")
    return Text(present(part.text, f"{place}.text"), kept)


def each_prompt(field: str, value: Prompts, limit: int) -> tuple[str | tuple[int, ...], ...]:
    """Return one prompt or several, at most `limit`; a flat list of token ids is one prompt."""
    prompts = (value,) if isinstance(value, str) else _each_of(field, value)
    if len(prompts) > limit:
        raise invalid(field, f"must hold at most {limit} texts")
    return prompts


def _each_of(field: str, items: list[Any]) -> tuple[str | tuple[int, ...], ...]:
    kinds = {type(item) for item in items}
    if kinds == {int}:
        return (tuple(items),)
    if kinds == {str}:
        return tuple(items)
    if kinds == {list}:
        return tuple(map(tuple, items))
    raise invalid(field, "must not mix texts, token ids and lists of token ids")


def text_options(
    request: TextRequest, max_tokens: int | None, logprobs: int | None
) -> GenerationOptions:
    """Return the options; `max_tokens` and `logprobs` are spelled differently in each dialect."""
    if request.stream and request.prompt_logprobs is not None:
        raise invalid("prompt_logprobs", "cannot be had where stream is true")
    stream = request.stream_options or StreamOptions()
    return replace(
        options(request, max_tokens),
        n=request.n or 1,
        logprobs=logprobs,
        prompt_logprobs=request.prompt_logprobs,
        stream_format=request.stream_format,
        stream_chunk=request.stream_chunk_size,
        include_usage=bool(stream.include_usage),
        timings=bool(request.timings_per_token),
        progress=bool(request.return_progress) and bool(request.stream),
        continuous_usage=bool(stream.include_usage and stream.continuous_usage_stats),
    )


def usage_body(usage: Usage) -> UsageBody:
    return UsageBody(
        usage.prompt,
        usage.completion,
        usage.prompt + usage.completion,
        PromptDetails(usage.cached),
        CompletionDetails(usage.reasoning),
        usage.shortened or UNSET,
    )


def timings_body(timings: Timings | None) -> TimingsBody | UnsetType:
    if timings is None:
        return UNSET
    computed, written = timings.computed, timings.written
    prompt = _pace(timings.computing, computed)
    return TimingsBody(
        timings.cached, computed, *prompt, written, *_pace(timings.writing, timings.later)
    )


def _pace(seconds: float, tokens: int) -> tuple[float, float, float]:
    """Return milliseconds, those of a token and tokens a second; 0 for none."""
    ms = seconds * 1000
    return ms, ms / tokens if tokens else 0.0, tokens / seconds if seconds else 0.0


class ChunkStream(ABC):
    """The chunks of one answer, all of the shape `body`; `handlers` says what an event brings.

    Nothing is sent for a choice after its end.
    """

    body: ClassVar[Callable[..., Any]]
    handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], Events]]]

    def __init__(self, identity: Identity, options: GenerationOptions) -> None:
        self._identity = identity
        self._options = options
        self._open = {0}  # choices that have not ended
        self._usage: UsageBody | UnsetType | None = None if options.include_usage else UNSET
        self._timings: TimingsBody | UnsetType = UNSET
        self._around = self._frame()

    def encode(self, event: Event) -> Events:
        return self.handlers[type(event)](self, event)

    def _begin(self, event: AnswerStarted) -> range:
        """Return the choices that begin."""
        self._open = set(range(event.choices))
        self._count(event.usage)
        return range(event.choices)

    def _progress(self, event: Progress) -> Events:
        self._count(event.usage)
        self._timings = timings_body(event.timings)
        self._around = self._frame()
        return ()

    def _count(self, usage: Usage) -> None:
        if self._options.continuous_usage:
            self._usage = usage_body(usage)
            self._around = self._frame()

    def _send(self, *choices: Struct) -> ServerEvent:
        before, after = self._around
        return ServerEvent(before + encode_json(choices) + after)

    def _frame(self) -> tuple[bytes, bytes]:
        """Return what stands before a chunk's choices, and what after: the same for many chunks."""
        before, mark, after = encode_json(self._chunk(())).partition(b'"choices":[]')
        return before + mark[:-2], after

    def _chunk(self, choices: tuple[Struct, ...]) -> Any:
        who = self._identity
        chunk = type(self).body(who.id, who.created, who.model, choices, self._usage)
        chunk.timings = self._timings
        chunk.system_fingerprint = who.fingerprint or UNSET
        return chunk

    @abstractmethod
    def _nothing(self, choice: int) -> Struct:
        """Return a choice's part in a chunk that adds nothing to it."""

    def _prompt_progress(self, event: PromptProgress) -> Events:
        chunk = self._chunk((self._nothing(event.choice),))
        times = event.total, event.cached, event.processed, event.seconds * 1000
        chunk.prompt_progress = ProgressBody(*times)
        return (ServerEvent(encode_json(chunk)),)

    def _heartbeat(self, event: Heartbeat) -> Events:
        if not self._open:
            return (COMMENT,)
        return (self._send(self._nothing(min(self._open))),)

    def _done(self, event: Done) -> Events:
        if not self._options.include_usage:
            return (DONE,)
        self._usage, self._timings = usage_body(event.usage), timings_body(event.timings)
        self._around = self._frame()
        return (self._send(), DONE)

    def _failure(self, event: Failure) -> Events:
        return (ServerEvent(openai_error(event.refusal)),)

    common: ClassVar[Mapping[type[Event], Callable[[Any, Any], Events]]] = {
        Progress: _progress,
        PromptProgress: _prompt_progress,
        Heartbeat: _heartbeat,
        Done: _done,
        Failure: _failure,
    }


def finite(token: TokenText) -> float:
    """Return the log probability, or OpenAI's -9999 for minus infinity, which JSON has not."""
    return -9999.0 if token.logprob is None else max(token.logprob, -9999.0)


def ranked(tokens: tuple[RankedToken, ...]) -> dict[int, RankedBody] | None:
    """Map a token and its alternatives; the first of a prompt has nothing."""
    return {t.token: RankedBody(max(t.logprob, -9999.0), t.rank, t.text) for t in tokens} or None
