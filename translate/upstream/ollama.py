"""Ollama's chat as an upstream: conversations to its requests, and its answers to events.

What is left out in silence: ids of calls, for which it has names and an order alone, whether calls
may be parallel, signatures of thoughts, and marks of what to cache.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct, ValidationError

from ..chat import (
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Done,
    Durations,
    Event,
    Finish,
    Message,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    Tool,
    ToolCallBegun,
    Usage,
)
from ..dialect import ServerEvent
from ..media import base64_of
from ..parts import Image, Media, Text
from ..reasoning import effort_asked, is_off
from ..tool_turns import failures, named_results
from .logprobs import Logprob, tokens_of
from .losses import USUAL, Losses, check
from .refusals import Error, decode_error, refusal
from .upstream import Upstream, bearer

Json = dict[str, Any]

NAME = "Ollama"
# Settings by its names for them.
OPTIONS: Mapping[str, str] = {
    "num_predict": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
SAID = USUAL | {*OPTIONS.values(), "stop", "logprobs"}
LEVELS = ("low", "medium", "high")  # of thinking, by the word; others are the nearest of these
NEAREST = {"minimal": "low", "xhigh": "high", "max": "high"}
REASONS: Mapping[str, str] = {"stop": "stop", "length": "length", "load": "load"}


def encode_request(chat: Chat, lossy: bool) -> bytes:
    """Return the body that asks for an answer. Raises Refusal for what it cannot say."""
    losses, options = Losses(NAME, lossy), chat.options
    check(chat, SAID, losses)
    settings = {name: getattr(options, field) for name, field in OPTIONS.items()}
    settings |= {"stop": [*options.stop] or None}
    settings = {name: value for name, value in settings.items() if value is not None}
    body: Json = {
        "model": chat.model,
        "messages": [*_messages(chat.messages, losses)],
        "stream": options.stream,
        "options": settings or None,
        "format": _format(chat, losses),
        "think": _think(chat.reasoning, options.max_tokens),
        "tools": _tools(chat, losses),
        "logprobs": True if options.logprobs is not None else None,
        "top_logprobs": options.logprobs or None,
    }
    return msgspec.json.encode({key: value for key, value in body.items() if value is not None})


def _format(chat: Chat, losses: Losses) -> Raw | str | None:
    format = chat.response_format
    if format is None:
        return None
    if format.kind == "json_object":
        return "json"
    if format.kind == "json_schema":
        return Raw(format.definition.encode())
    losses.note(format.field, "answers of a form but by a JSON schema")
    return None


def _messages(turns: tuple[Message, ...], losses: Losses) -> Iterator[Json]:
    """Yield the turns; results have the names of their calls, and say so where these failed."""
    for turn in named_results(failures(turns)):
        images = [*_images(turn, losses)]
        calls = [{"function": {"name": call.name, "arguments": call.values}} for call in turn.calls]
        yield {
            "role": turn.role,
            "content": turn.text,
            **({"thinking": turn.reasoning} if turn.reasoning else {}),
            **({"images": images} if images else {}),
            **({"tool_calls": calls} if calls else {}),
            **({"tool_name": turn.name} if turn.role == "tool" and turn.name else {}),
        }


def _images(turn: Message, losses: Losses) -> Iterator[str]:
    for part in turn.content:
        if isinstance(part, Image) and part.data:
            yield base64_of(part)
        elif isinstance(part, Image):
            losses.note(part.field, "images by their addresses")
        elif isinstance(part, Media):
            losses.note(part.field, "parts other than texts and images")
        else:
            assert isinstance(part, Text)


def _tools(chat: Chat, losses: Losses) -> list[Json] | None:
    """Return the tools that may be called; that one must be is nothing that it can be told."""
    choice = chat.tool_choice
    if choice.mode == "required" and chat.tools:
        losses.note("tool_choice", "a call of a tool that must come")
    return [*map(_tool, chat.offered)] or None


def _tool(tool: Tool) -> Json:
    about = {"description": tool.description} if tool.description else {}
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": tool.name, **about, "parameters": parameters}}


def _think(asked: Reasoning, limit: int | None) -> bool | str | None:
    if is_off(asked):
        return False
    if (effort := effort_asked(asked, limit)) is not None:
        return NEAREST.get(effort, effort)
    return asked.enabled


class Function(Struct, frozen=True):
    name: str = ""
    arguments: Raw = Raw(b"{}")


class Call(Struct):
    function: Function = Function()
    id: str = ""


class Said(Struct):
    content: str = ""
    thinking: str = ""
    tool_calls: list[Call] | None = None


class Body(Struct):
    """An answer, or a piece of one; the last of them has the counts."""

    message: Said | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_duration: int | None = None
    eval_duration: int | None = None
    logprobs: list[Logprob] | None = None
    error: str | None = None

    @property
    def ending(self) -> Done:
        durations = Durations(
            self.total_duration or 0,
            self.load_duration or 0,
            self.prompt_eval_duration or 0,
            self.eval_duration or 0,
        )
        return Done(Usage(self.prompt_eval_count or 0, self.eval_count or 0), durations=durations)


BODY = msgspec.json.Decoder(Body)


class AnswerDecoder:
    """A decoder of a stream, of a line each."""

    def __init__(self) -> None:
        self.over = False
        self._started = False
        self._calls = 0

    def decode(self, event: ServerEvent) -> Iterable[Event]:
        """Return what a line means."""
        if self.over or not event.data.strip():
            return ()
        try:
            return [*self._read(BODY.decode(event.data))]
        except ValidationError as error:
            raise ValueError(f"a line is none of Ollama's: {error}") from None

    def _read(self, body: Body) -> Iterator[Event]:
        if body.error is not None:
            raise refusal(500, Error(body.error))
        if body.message is None and not body.done:
            raise ValueError("it is no answer of Ollama's")
        if not self._started:
            self._started = True
            yield AnswerStarted(Usage(body.prompt_eval_count or 0, 0))
        said = body.message or Said()
        tokens = tokens_of(body.logprobs)
        if said.thinking:
            yield ReasoningDelta(0, said.thinking, () if said.content else tokens)
        if said.content:
            yield TextDelta(0, said.content, tokens)
        for call in said.tool_calls or ():
            yield from self._call(call)
        if body.done:
            self.over = True
            reason = REASONS.get(body.done_reason or "stop", "stop")
            yield Finish(0, "tool_calls" if self._calls and reason == "stop" else reason)
            yield body.ending

    def _call(self, call: Call) -> Iterator[Event]:
        if not call.function.name:
            raise ValueError("a tool call has no name")
        id = call.id or f"call_{secrets.token_hex(12)}"
        yield ToolCallBegun(0, self._calls, id, call.function.name)
        yield ArgumentsDelta(0, self._calls, _written(bytes(call.function.arguments)))
        self._calls += 1


def _written(arguments: bytes) -> str:
    """Return arguments as JSON's text; they are an object, or a text of one."""
    value = msgspec.json.decode(arguments)
    if value is None:
        return "{}"
    return value if isinstance(value, str) else arguments.decode()


def decode_response(body: bytes) -> Sequence[Event]:
    """Return the events of a whole answer. Raises ValueError for what is none, or Refusal."""
    decoder = AnswerDecoder()
    events = [*decoder.decode(ServerEvent(body))]
    if not decoder.over:
        raise ValueError("it is no whole answer of Ollama's")
    return events


UPSTREAM = Upstream(
    format="ollama",
    path="/api/chat",
    framing="ndjson",
    headers={},
    authorization=bearer,
    encode_request=encode_request,
    decode_response=decode_response,
    stream=AnswerDecoder,
    decode_error=decode_error,
)
