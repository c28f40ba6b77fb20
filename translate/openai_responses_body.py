"""OpenAI's responses: the bodies of responses, of their items and of the events of a stream."""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from ..engine.request import Refusal
from .chat import Identity, Shortened, Usage
from .openai_responses_request import DecodedRequest
from .structured_output import UNSENT

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

encode_json = msgspec.json.Encoder().encode

EMPTY = Raw(b"[]")
PREFIX = "resp_"


class InputDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    reasoning_tokens: int


class UsageBody(Struct):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int
    context_overflow: Shortened | UnsetType = UNSET


class OutputText(Struct, tag="output_text"):
    text: str = ""
    annotations: Raw = field(default_factory=lambda: EMPTY)
    logprobs: Raw = field(default_factory=lambda: EMPTY)


class ThoughtText(Struct, tag="reasoning_text"):
    text: str = ""


class SummaryText(Struct, tag="summary_text"):
    text: str = ""


class MessageItem(Struct, tag="message"):
    id: str
    status: str
    content: tuple[OutputText, ...] = ()
    role: str = "assistant"


class ReasoningItem(Struct, tag="reasoning"):
    id: str
    status: str
    summary: tuple[SummaryText, ...] = ()
    content: tuple[ThoughtText, ...] | UnsetType = UNSET
    encrypted_content: str | UnsetType = UNSET


class FunctionItem(Struct, tag="function_call"):
    id: str
    status: str
    call_id: str
    name: str
    arguments: str = ""
    namespace: str | UnsetType = UNSET


class CustomItem(Struct, tag="custom_tool_call"):
    id: str
    status: str
    call_id: str
    name: str
    input: str = ""
    namespace: str | UnsetType = UNSET


OutputItem = MessageItem | ReasoningItem | FunctionItem | CustomItem


class ErrorBody(Struct):
    code: str
    message: str


class IncompleteDetails(Struct):
    reason: str


class ResponseBody(Struct, kw_only=True):
    id: str
    object: str = "response"
    created_at: int
    completed_at: int | None = None
    status: Status
    background: bool
    error: ErrorBody | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: tuple[OutputItem, ...] = ()
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Raw
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float | None
    text: Raw
    tool_choice: Raw
    tools: Raw
    top_logprobs: int
    top_p: float | None
    truncation: str
    usage: UsageBody | None = None
    user: str | None
    metadata: dict[str, str]


class Piece(Struct, kw_only=True):
    """An event of a stream; each type has some of these fields."""

    type: str
    sequence_number: int = 0
    response: ResponseBody | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    summary_index: int | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    part: OutputText | ThoughtText | SummaryText | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    input: str | UnsetType = UNSET
    logprobs: Raw | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    param: str | UnsetType | None = UNSET
    obfuscation: str | UnsetType = UNSET


def failed_body(body: bytes, refusal: Refusal) -> bytes:
    """Return a stored body of a response that its server did not end."""
    error = {"code": "server_error", "message": refusal.message}
    told = msgspec.json.decode(body, type=dict[str, Raw])
    changes = {"status": "failed", "error": error}
    return encode_json(told | {key: Raw(encode_json(value)) for key, value in changes.items()})


def output_items(body: ResponseBody) -> list[tuple[str, bytes]]:
    """Return the items of the output, each with its id, as they are read again."""
    return [(item.id, encode_json(item)) for item in body.output]


def response_body(request: DecodedRequest, who: Identity, stored: bool) -> ResponseBody:
    fields, sent = request.fields, request.sent
    return ResponseBody(
        id=who.id,
        created_at=who.created,
        status="in_progress",
        background=fields.background or False,
        instructions=fields.instructions,
        max_output_tokens=fields.max_output_tokens,
        max_tool_calls=fields.max_tool_calls,
        model=who.model,
        parallel_tool_calls=fields.parallel_tool_calls is not False,
        previous_response_id=fields.previous_response_id,
        prompt_cache_key=fields.prompt_cache_key,
        reasoning=_sent(sent.reasoning, b'{"effort":null,"summary":null}'),
        safety_identifier=fields.safety_identifier,
        service_tier="default",
        store=stored,
        temperature=fields.temperature,
        text=_sent(sent.text, b'{"format":{"type":"text"}}'),
        tool_choice=_sent(sent.tool_choice, b'"auto"'),
        tools=_sent(sent.tools, b"[]"),
        top_logprobs=fields.top_logprobs or 0,
        top_p=fields.top_p,
        truncation=fields.truncation or "disabled",
        user=fields.user,
        metadata=fields.metadata or {},
    )


def _sent(raw: Raw, default: bytes) -> Raw:
    return Raw(default) if bytes(raw) in UNSENT else raw


def usage_body(usage: Usage) -> UsageBody:
    prompt, completion = usage.prompt, usage.completion
    return UsageBody(
        prompt,
        InputDetails(usage.cached, usage.created or 0),
        completion,
        OutputDetails(usage.reasoning),
        prompt + completion,
        usage.shortened or UNSET,
    )
