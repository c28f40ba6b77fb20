"""Anthropic's messages: requests, and bodies whose prompts are to be counted, to Chat."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from ..engine.request import Refusal
from .chat import (
    Chat,
    Content,
    GenerationOptions,
    Message,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    said,
)
from .decode import invalid, shown, unsupported
from .fields import MESSAGES, RequestDecoder
from .sampling import MAX_MESSAGES, StopStrings, max_tokens, options, stop_strings
from .structured_output import UNSENT, StructuredFields, response_format, schema_format
from .tool_fields import checked_choice, checked_tool

ROLES = ("user", "assistant", "system")
THINKING = {"enabled": True, "adaptive": True, "disabled": False}
MODES: Mapping[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "any": "required",
    "tool": "required",
    "none": "none",
}
UNBUILT_BLOCKS = {
    "image": "image input",
    "document": "document input",
    "search_result": "search results",
    "server_tool_use": "server tools",
    "web_search_tool_result": "server tools",
}


class InputBlock(Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | list[InputBlock] | None" = None
    is_error: bool | None = None


class InputMessage(Struct):
    role: str
    content: str | list[InputBlock]


class Thinking(Struct):
    type: str


class InputTool(Struct):
    """A tool; a `type` other than custom is one that Anthropic's servers have."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class OutputFormat(Struct):
    type: str
    schema: Raw = field(default_factory=Raw)


class OutputConfig(Struct):
    format: OutputFormat | None = None


class InputToolChoice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesRequest(StructuredFields, kw_only=True):
    """A request for an answer, or for its prompt to be counted."""

    model: str = ""
    messages: Annotated[list[InputMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[InputBlock] | None = None
    thinking: Thinking | None = None
    tools: list[InputTool] | None = None
    tool_choice: InputToolChoice | None = None
    stop_sequences: StopStrings | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # its name before


DECODER = RequestDecoder(MessagesRequest, MESSAGES)


def decode_request(body: bytes) -> Chat:
    """Decode a request; one of no tokens only puts its prompt into the prefix cache."""
    request = DECODER.decode(body)
    limit = max_tokens(request, 0)
    if limit is None:
        raise invalid("max_tokens", "is required", "missing_required_parameter")
    settings = options(request, limit)
    if stops := stop_strings("stop_sequences", request.stop_sequences):
        settings = replace(settings, stop=stops)
    return _chat(request, settings)


def decode_count(body: bytes) -> Chat:
    """Decode the body of count_tokens: a conversation whose prompt is to be counted."""
    return _chat(DECODER.decode(body), GenerationOptions())


def _chat(request: MessagesRequest, options: GenerationOptions) -> Chat:
    system = (_system(request.system),) if request.system else ()
    each = (_messages(m, f"messages[{i}]") for i, m in enumerate(request.messages))
    turns = (*system, *chain.from_iterable(each))
    tools = tuple(_tools(request.tools or ()))
    # A last turn of the assistant is a beginning that the model goes on from.
    last = turns[-1]
    continues = last.role == "assistant" and bool(last.text) and not last.calls
    format = response_format(request, _formats(request))
    if continues and format is not None:  # as at Anthropic's: it would be the form of a part
        raise invalid(format.field, "cannot be had where the last message is the assistant's")
    return Chat(
        model=request.model,
        messages=turns,
        options=options,
        template=thinking_kwargs(request.thinking),
        continue_final=continues,
        response_format=format,
        tools=tools,
        tool_choice=checked_choice(tools, _choice(request.tool_choice), "tool_choice"),
        call_prefix="toolu_",
    )


def _tools(tools: Sequence[InputTool]) -> Iterator[Tool]:
    """Yield the tools that a client has itself."""
    for at, tool in enumerate(tools):
        if tool.type in (None, "custom"):
            place, schema = f"tools[{at}]", tool.input_schema
            about = tool.name, tool.description, schema, tool.strict
            yield checked_tool(*about, place, "input_schema")


def _choice(choice: InputToolChoice | None) -> ToolChoice:
    if choice is None:
        return ToolChoice()
    if choice.type not in MODES:
        allowed = ", ".join(MODES)
        raise invalid("tool_choice.type", f"must be one of {allowed}, not {shown(choice.type)}")
    names = (_present(choice.name, "tool_choice.name"),) if choice.type == "tool" else ()
    return ToolChoice(MODES[choice.type], names, not choice.disable_parallel_tool_use)


def _formats(request: MessagesRequest) -> Iterator[ResponseFormat]:
    config = request.output_config or OutputConfig()
    fields = {"output_config.format": config.format, "output_format": request.output_format}
    for name, format in fields.items():
        if format is None:
            continue
        if format.type != "json_schema":
            raise invalid(f"{name}.type", f"must be json_schema, not {shown(format.type)}")
        if bytes(format.schema) in UNSENT:
            raise invalid(f"{name}.schema", "is required", "missing_required_parameter")
        yield schema_format(name, format.schema)


def thinking_kwargs(thinking: Thinking | None) -> dict[str, Any]:
    """Return what a template is told of it."""
    if thinking is None:
        return {}
    if thinking.type not in THINKING:
        allowed = ", ".join(THINKING)
        raise invalid("thinking.type", f"must be one of {allowed}, not {shown(thinking.type)}")
    return {"enable_thinking": THINKING[thinking.type]}


def _system(system: str | list[InputBlock]) -> Message:
    return Message("system", _texts(system, "system"), in_parts=isinstance(system, list))


def _messages(message: InputMessage, place: str) -> Iterator[Message]:
    """Yield the turns of a message: results of tools are turns of their own."""
    if message.role not in ROLES:
        problem = f"must be one of {', '.join(ROLES)}, not {shown(message.role)}"
        raise invalid(f"{place}.role", problem)
    blocks, where, role = message.content, f"{place}.content", message.role
    if isinstance(blocks, str):
        yield Message(role, said(blocks))
        return
    places = [f"{where}[{i}]" for i in range(len(blocks))]
    groups = groupby(zip(blocks, places, strict=True), lambda each: each[0].type == "tool_result")
    for results, group in groups:
        if results and role == "user":
            yield from (_result(*each) for each in group)
        else:
            yield _turn(role, [*group])
    if not blocks:
        yield Message(role, in_parts=True)


def _turn(role: str, blocks: Sequence[tuple[InputBlock, str]]) -> Message:
    texts: list[Text] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block, where in blocks:
        if block.type == "text":
            texts.append(Text(_present(block.text, f"{where}.text")))
        elif block.type == "thinking" and role == "assistant":
            thoughts.append(_present(block.thinking, f"{where}.thinking"))
        elif block.type == "tool_use" and role == "assistant":
            id_, name = _present(block.id, f"{where}.id"), _present(block.name, f"{where}.name")
            calls.append(ToolCall(id_, name, msgspec.json.encode(block.input or {}).decode()))
        elif block.type != "redacted_thinking" or role != "assistant":
            raise _unknown_block(block.type, f"{where}.type")
    reasoning = "\n".join(thoughts) or None
    return Message(role, tuple(texts), reasoning, calls=tuple(calls), in_parts=True)


def _result(block: InputBlock, place: str) -> Message:
    content, listed = block.content or "", isinstance(block.content, list)
    return Message(
        "tool",
        _texts(content, f"{place}.content"),
        result_of=_present(block.tool_use_id, f"{place}.tool_use_id"),
        failed=bool(block.is_error),
        in_parts=listed,
    )


def _texts(content: str | list[InputBlock], place: str) -> Content:
    """Return a content that can be nothing but texts."""
    if isinstance(content, str):
        return said(content)
    for i, block in enumerate(content):
        if block.type != "text":
            raise _unknown_block(block.type, f"{place}[{i}].type")
    texts = ((block.text, f"{place}[{i}].text") for i, block in enumerate(content))
    return tuple(Text(_present(*each)) for each in texts)


def _present(text: str | None, place: str) -> str:
    if text is None:
        raise invalid(place, "is required", "missing_required_parameter")
    return text


def _unknown_block(kind: str, place: str) -> Refusal:
    if kind in UNBUILT_BLOCKS:
        return unsupported(place, UNBUILT_BLOCKS[kind])
    return invalid(place, f"must be text here, not {shown(kind)}")
