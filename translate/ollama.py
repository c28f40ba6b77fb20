"""Ollama's chat and generate: answers and events to JSON, a line each where they are streamed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from . import ollama_request
from .chat import (
    Answer,
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Durations,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Identity,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    TokenText,
    ToolCall,
    ToolCallBegun,
    Usage,
)
from .dialect import Dialect, ServerEvent
from .errors import OllamaErrorBody, ollama_error
from .ollama_request import decode_chat, decode_prompt
from .openai_shape import encode_json, filled, finite
from .operation import Operation

Events = tuple[ServerEvent, ...]
REASONS = {"tool_calls": "stop", "refusal": "stop"}  # it has no words for these


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class CalledFunction(Struct):
    index: int
    name: str
    arguments: Any


class OutputCall(Struct):
    id: str
    function: CalledFunction


class OutputMessage(Struct):
    role: str
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[OutputCall] | UnsetType = UNSET


class Body(Struct, kw_only=True):
    """The fields of a line, or of a whole answer; those from `done_reason` on are the last's."""

    model: str
    created_at: str
    done: bool = False
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET  # nanoseconds, as all durations
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET


class ChatBody(Body, kw_only=True):
    message: OutputMessage


class PromptBody(Body, kw_only=True):
    response: str
    thinking: str | UnsetType = UNSET
    context: Sequence[int] | UnsetType = UNSET


class Piece(Struct):
    """The part of an answer that a line has."""

    text: str = ""
    reasoning: str = ""
    calls: Sequence[OutputCall] = ()
    context: Sequence[int] = ()


Shape = Callable[..., Body]  # of a Piece, and the fields of its line


def chat_body(piece: Piece, **fields: Any) -> ChatBody:
    message = OutputMessage("assistant", piece.text)
    message.thinking = piece.reasoning or UNSET
    message.tool_calls = list(piece.calls) or UNSET
    return ChatBody(message=message, **fields)


def prompt_body(piece: Piece, **fields: Any) -> PromptBody:
    thinking, context = piece.reasoning or UNSET, piece.context or UNSET
    return PromptBody(response=piece.text, thinking=thinking, context=context, **fields)


class Stream:
    """The lines of one answer; a call is in a line by itself, once it is whole."""

    shape: ClassVar[Shape]

    def __init__(self, identity: Identity, options: GenerationOptions) -> None:
        self._who = {"model": identity.model, "created_at": when(identity.created)}
        self._call: ToolCallBegun | None = None
        self._arguments: list[str] = []
        self._reason = ""

    def encode(self, event: Event) -> Events:
        if isinstance(event, ArgumentsDelta):
            self._arguments.append(event.text)
            return ()
        calls = self._called()
        return (*calls, *self.handlers[type(event)](self, event))

    def _nothing(self, event: Event) -> Events:
        return ()

    def _text_delta(self, event: TextDelta) -> Events:
        return (self._line(Piece(event.text), event.tokens),)

    def _reasoning_delta(self, event: ReasoningDelta) -> Events:
        return (self._line(Piece(reasoning=event.text), event.tokens),)

    def _tool_call(self, event: ToolCallBegun) -> Events:
        self._call = event
        return ()

    def _finish(self, event: Finish) -> Events:
        self._reason = event.reason
        return ()

    def _heartbeat(self, event: Heartbeat) -> Events:
        return (self._line(Piece()),)

    def _done(self, event: Done) -> Events:
        ending = ended(self._reason, event.usage, event.durations)
        return (self._line(Piece(context=event.context), (), **ending),)

    def _failure(self, event: Failure) -> Events:
        return (ServerEvent(ollama_error(event.refusal)),)

    def _called(self) -> Events:
        """Return the call that is over, unless it broke off: then its text follows."""
        begun, self._call = self._call, None
        if begun is None:
            return ()
        arguments, self._arguments = "".join(self._arguments), []
        try:
            call = called(begun.index, begun.id, begun.name, arguments)
        except msgspec.DecodeError:
            return ()
        return (self._line(Piece(calls=(call,))),)

    def _line(self, piece: Piece, tokens: tuple[TokenText, ...] = (), **ending: Any) -> ServerEvent:
        logprobs = [*map(_token, tokens)] or UNSET
        body = type(self).shape(piece, **self._who, **ending, logprobs=logprobs)
        return ServerEvent(encode_json(body))

    handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], Events]]] = {
        AnswerStarted: _nothing,
        TextDelta: _text_delta,
        ReasoningDelta: _reasoning_delta,
        ThoughtSigned: _nothing,
        ToolCallBegun: _tool_call,
        Finish: _finish,
        Heartbeat: _heartbeat,
        Done: _done,
        Failure: _failure,
    }


class ChatStream(Stream):
    shape = staticmethod(chat_body)


class PromptStream(Stream):
    shape = staticmethod(prompt_body)


def encode_answer(shape: Shape, answer: Answer, identity: Identity) -> bytes:
    choice = answer.choices[0]
    calls = [called(at, *_parts(call)) for at, call in enumerate(choice.calls)]
    body = shape(
        Piece(choice.text, choice.reasoning, calls, answer.context),
        model=identity.model,
        created_at=when(identity.created),
        logprobs=[] if choice.tokens else UNSET,
        **ended(choice.reason, answer.usage, answer.durations),
    )
    lists: dict[str, Iterable[object]] = {"logprobs": map(_token, choice.tokens)}
    return filled(body, **lists) if choice.tokens else encode_json(body)


def ended(reason: str, usage: Usage, times: Durations) -> dict[str, Any]:
    """Return the fields that tell of an answer's end; where nothing was written, only why."""
    ending: dict[str, Any] = {"done": True, "done_reason": REASONS.get(reason, reason)}
    if reason == "load":
        return ending
    return ending | {
        "total_duration": times.total,
        "load_duration": times.load,
        "prompt_eval_count": usage.prompt,
        "prompt_eval_duration": times.prompt,
        "eval_count": usage.completion,
        "eval_duration": times.completion,
    }


def called(index: int, id: str, name: str, arguments: str) -> OutputCall:
    """Return a call as clients read it. Raises msgspec.DecodeError for arguments that break off."""
    return OutputCall(id, CalledFunction(index, name, msgspec.json.decode(arguments or "{}")))


def when(seconds: float) -> str:
    """Return a time in Unix seconds as Go writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _parts(call: ToolCall) -> tuple[str, str, str]:
    return call.id, call.name, call.arguments


def _token(token: TokenText) -> TokenLogprob:
    top = [TopLogprob(t.text, finite(t), list(t.raw)) for t in token.top]
    return TokenLogprob(token.text, finite(token), list(token.raw), top)


def _dialect(
    decode: Callable[[bytes], Any],
    shape: Shape,
    stream: type[Stream],
    prefix: str,
    operation: Operation,
) -> Dialect:
    return Dialect(
        prefix=prefix,
        decode_request=decode,
        encode_response=lambda answer, identity: encode_answer(shape, answer, identity),
        stream=stream,
        encode_error=ollama_error,
        framing="ndjson",
        operation=operation,
    )


CHAT = _dialect(
    decode_chat,
    chat_body,
    ChatStream,
    "chat-",
    Operation(
        summary="Answer a conversation, as Ollama does; a stream unless `stream` is false",
        request=ollama_request.CHAT,
        response=ChatBody,
        pieces=(ChatBody, OllamaErrorBody),
        error=OllamaErrorBody,
        example={"messages": [{"role": "user", "content": "Hello!"}], "stream": False},
    ),
)
GENERATE = _dialect(
    decode_prompt,
    prompt_body,
    PromptStream,
    "generate-",
    Operation(
        summary="Answer a prompt, as Ollama does; a stream unless `stream` is false",
        request=ollama_request.PROMPT,
        response=PromptBody,
        pieces=(PromptBody, OllamaErrorBody),
        error=OllamaErrorBody,
        example={"prompt": "Hello!", "stream": False},
    ),
)
