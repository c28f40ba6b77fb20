"""OpenAI's responses: requests to conversations, with what the answer repeats of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from ..engine.request import Refusal
from .chat import Chat, GenerationOptions, Message, Overflow, Reasoning, ResponseFormat
from .decode import bound_values, invalid, missing, shown
from .fields import RESPONSES, RESPONSES_IGNORED, RequestDecoder
from .openai_reasoning import ReasoningObject, ReasoningRequest, reasoning_of
from .openai_responses_items import DECODER as ITEM
from .openai_responses_items import Item, listed, turns_of
from .openai_responses_tools import InputTool, InputToolChoice, Targets, tools_of
from .parts import said
from .sampling import MAX_MESSAGES, Alternatives, Count, max_tokens, options
from .structured_output import UNSENT, StructuredFields, response_format, schema_format

LOGPROBS, SEALED_THOUGHTS = "message.output_text.logprobs", "reasoning.encrypted_content"
# What may be included: the others are of tools that OpenAI's own servers run.
INCLUDABLE = frozenset(
    {
        LOGPROBS,
        SEALED_THOUGHTS,
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "message.input_image.image_url",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
    }
)
OVERFLOWS: Mapping[str | None, Overflow | None] = {
    None: None,  # the server's own way
    "auto": "truncate",
    "disabled": "error",
}
SUMMARIES = Literal["auto", "concise", "detailed"]

Items = Annotated[list[Item], Meta(max_length=MAX_MESSAGES)]
Key = Annotated[str, Meta(max_length=64)]
Value = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[Key, Value], Meta(max_length=16)]


class InputReasoning(ReasoningObject):
    summary: SUMMARIES | None = None
    generate_summary: SUMMARIES | None = None  # its name before


class TextConfig(Struct):
    format: Raw = msgspec.field(default_factory=Raw)
    verbosity: Literal["low", "medium", "high"] | None = None


class StreamOptions(Struct):
    include_obfuscation: bool | None = None


class ResponsesRequest(StructuredFields, kw_only=True):
    model: str | None = None
    input: str | Items | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: Count | None = None
    tools: list[InputTool] | None = None
    tool_choice: str | InputToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: InputReasoning | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    include: list[str] | None = None
    top_logprobs: Alternatives | None = None
    truncation: Literal["auto", "disabled"] | None = None
    store: bool | None = None
    background: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


class Sent(Struct):
    """The fields that an answer repeats as they were sent."""

    tools: Raw = Raw()
    tool_choice: Raw = Raw()
    text: Raw = Raw()
    reasoning: Raw = Raw()


@dataclass(frozen=True, slots=True)
class DecodedRequest:
    """A request; `history` is what was said before it, where it goes on from another response."""

    fields: ResponsesRequest
    sent: Sent
    targets: Targets
    input: tuple[Item, ...]
    history: tuple[Item, ...] = ()

    @property
    def stored(self) -> bool:
        return self.fields.store is not False

    @property
    def stream(self) -> bool:
        return self.fields.stream or False

    @property
    def includes(self) -> frozenset[str]:
        return frozenset(self.fields.include or ())

    @property
    def summarizes(self) -> bool:
        """Whether thoughts are told as their summary."""
        about = self.fields.reasoning or InputReasoning()
        return (about.summary or about.generate_summary) is not None

    @property
    def references(self) -> tuple[str, ...]:
        """The ids of stored items that the input only names."""
        return tuple(item.id or "" for item in self.input if item.kind == "item_reference")

    def resolved(self, history: Sequence[bytes], found: Mapping[str, bytes]) -> "DecodedRequest":
        """Return the request with stored items in it. Raises Refusal for one that is not there."""
        items = tuple(self._resolved(at, item, found) for at, item in enumerate(self.input))
        return replace(self, input=items, history=tuple(map(ITEM.decode, history)))

    def _resolved(self, at: int, item: Item, found: Mapping[str, bytes]) -> Item:
        if item.kind != "item_reference":
            return item
        id = item.id or ""
        if id not in found:
            message = f"There is no stored item with the id {shown(id)}."
            raise Refusal(404, "item_not_found", message, f"input[{at}].id")
        return ITEM.decode(found[id])

    def chat(self) -> Chat:
        """Return the conversation. Raises Refusal."""
        fields = self.fields
        tools, choice, _ = _tools(fields)
        system = (Message("system", said(fields.instructions)),) if fields.instructions else ()
        history = turns_of(self.history, "previous_response_id")
        turns = (*system, *history, *turns_of(self.input, "input"))
        if not turns:
            raise invalid("input", "must not be empty")
        return Chat(
            model=fields.model or "",
            messages=turns,
            options=_options(fields),
            template=fields.chat_template_kwargs or {},
            reasoning=_reasoning(fields),
            tools=tools,
            tool_choice=choice,
            response_format=response_format(fields, _formats(fields)),
        )


DECODER = RequestDecoder(ResponsesRequest, RESPONSES, RESPONSES_IGNORED)
SENT = msgspec.json.Decoder(Sent)


def decode_request(body: bytes) -> DecodedRequest:
    """Decode a request and check all of it that needs no stored items. Raises Refusal."""
    fields = DECODER.decode(body)
    for at, name in enumerate(fields.include or ()):
        if name not in INCLUDABLE:
            raise invalid(f"include[{at}]", f"cannot be {shown(name)}")
    bound_values("chat_template_kwargs", fields.chat_template_kwargs)
    *_, targets = _tools(fields)
    return DecodedRequest(fields, _sent(body), targets, _input(fields))


def stored_items(request: DecodedRequest) -> list[tuple[str, bytes]]:
    """Return a request's own items, each with its id, as they are listed and read again."""
    items = map(listed, request.input)
    return [(item.id or "", msgspec.json.encode(item)) for item in items]


def _sent(body: bytes) -> Sent:
    """Return copies: what Raw holds by itself is the whole body."""
    sent = SENT.decode(body)
    return Sent(sent.tools.copy(), sent.tool_choice.copy(), sent.text.copy(), sent.reasoning.copy())


def _input(fields: ResponsesRequest) -> tuple[Item, ...]:
    if isinstance(fields.input, str):
        return (Item("message", role="user", content=fields.input),)
    if fields.input is None and not fields.previous_response_id:
        raise missing("input")
    return tuple(fields.input or ())


def _tools(fields: ResponsesRequest) -> Any:
    parallel = fields.parallel_tool_calls is not False
    return tools_of(fields.tools or (), fields.tool_choice, parallel)


def _options(fields: ResponsesRequest) -> GenerationOptions:
    """Return the options. With log probabilities the whole answer is kept, streamed or not."""
    if fields.max_output_tokens == 0:
        raise invalid("max_output_tokens", "must be at least 1")
    limit = fields.max_output_tokens or max_tokens(fields, 1)
    wanted = fields.top_logprobs or LOGPROBS in (fields.include or ())
    logprobs = (fields.top_logprobs or 0) if wanted else None
    stream = bool(fields.stream) and logprobs is None
    settings = options(fields, limit)
    overflow = settings.overflow or OVERFLOWS[fields.truncation]
    return replace(settings, logprobs=logprobs, stream=stream, overflow=overflow)


def _reasoning(fields: ResponsesRequest) -> Reasoning:
    """Return what is asked of thoughts, in the names that chat completions have for it too."""
    kwargs = fields.chat_template_kwargs
    return reasoning_of(ReasoningRequest(reasoning=fields.reasoning, chat_template_kwargs=kwargs))


def _formats(fields: ResponsesRequest) -> Iterator[ResponseFormat]:
    """Yield the form that `text.format` asks for, which has its schema beside its type."""
    raw, place = (fields.text or TextConfig()).format, "text.format"
    if bytes(raw) in UNSENT:
        return
    try:
        body = msgspec.json.decode(raw, type=dict[str, Raw])
    except msgspec.ValidationError:
        raise invalid(place, "must be an object") from None
    kind = msgspec.json.decode(body.get("type", Raw(b"null")))
    if kind == "json_object":
        yield ResponseFormat("json_object", "", field=place)
    elif kind == "json_schema":
        if bytes(body.get("schema", Raw())) in UNSENT:
            raise missing(f"{place}.schema")
        strict = bytes(body.get("strict", Raw())) == b"true"
        yield schema_format(place, body["schema"], strict)
    elif kind != "text":
        problem = f"must be text, json_object or json_schema, not {shown(str(kind))}"
        raise invalid(f"{place}.type", problem)
