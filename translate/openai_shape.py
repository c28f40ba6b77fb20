"""The part that OpenAI's two text dialects share: refused fields, usage, failures."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, Struct

from .chat import Done, Event, Failure, GenerationOptions, Identity, TokenText, Usage
from .decode import invalid, unsupported
from .dialect import ServerEvent
from .errors import openai_error
from .sampling import SamplingFields, TokenId

Events = tuple[ServerEvent, ...]
TokenIds = Annotated[list[TokenId], Meta(min_length=1)]
Prompts = str | Annotated[list[str | TokenId | TokenIds], Meta(min_length=1)]

encode_json = msgspec.json.Encoder().encode

# Field -> what this version lacks. Values that ask for nothing are let through.
UNBUILT = {
    "tools": "tool calls",
    "tool_choice": "tool calls",
    "functions": "function calls",
    "function_call": "function calls",
    "response_format": "constrained output",
    "structured_outputs": "constrained output",
    "guided_json": "constrained output",
    "guided_regex": "constrained output",
    "guided_choice": "constrained output",
    "guided_grammar": "constrained output",
    "grammar": "constrained output",
    "json_schema": "constrained output",
    "audio": "audio output",
    "modalities": "output other than text",
    "chat_template": "templates sent with a request",
}
ASKS_NOTHING: dict[str, tuple[Any, ...]] = {
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


class TextRequest(SamplingFields, kw_only=True):
    model: str
    user: str | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    grammar: Any = None
    json_schema: Any = None
    audio: Any = None
    modalities: Any = None
    chat_template: Any = None


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


class AnswerBody(Struct):
    """The fields that every body and chunk of one answer repeats."""

    id: str
    created: int
    model: str


DONE = ServerEvent(b"[DONE]", mark=True)


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


def refuse_unbuilt(request: TextRequest) -> None:
    fields = msgspec.structs.asdict(request)
    for name, what in UNBUILT.items():
        if fields[name] and fields[name] not in ASKS_NOTHING.get(name, ()):
            raise unsupported(name, what)


def usage_body(usage: Usage) -> UsageBody:
    return UsageBody(
        usage.prompt,
        usage.completion,
        usage.prompt + usage.completion,
        PromptDetails(usage.cached),
        CompletionDetails(usage.reasoning),
    )


class ChunkStream:
    """The chunks of one answer, all of the shape `body`; `handlers` says what an event brings.

    A delta takes under a microsecond, so nothing is kept encoded.
    """

    body: ClassVar[Callable[..., Struct]]
    handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], Events]]]

    def __init__(self, identity: Identity, options: GenerationOptions) -> None:
        self._identity = identity
        self._include_usage = options.include_usage
        self._choices = range(options.n)

    def encode(self, event: Event) -> Events:
        return self.handlers[type(event)](self, event)

    def _send(self, *choices: Struct, usage: UsageBody | None = None) -> ServerEvent:
        who, shown = self._identity, usage if self._include_usage else UNSET
        chunk = type(self).body(who.id, who.created, who.model, choices, shown)
        return ServerEvent(encode_json(chunk))

    def _done(self, event: Done) -> Events:
        if not self._include_usage:
            return (DONE,)
        return (self._send(usage=usage_body(event.usage)), DONE)

    def _failure(self, event: Failure) -> Events:
        return (ServerEvent(openai_error(event.refusal)),)


def finite(token: TokenText) -> float:
    """Return the log probability, or OpenAI's -9999 for minus infinity, which JSON has not."""
    return -9999.0 if token.logprob is None else max(token.logprob, -9999.0)
