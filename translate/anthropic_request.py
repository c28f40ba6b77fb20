"""Anthropic's messages: requests, and bodies whose prompts are to be counted, to Chat."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from ..engine.request import Refusal
from .anthropic_blocks import Effort, InputBlock, InputMessage, InputTool
from .anthropic_documents import document, search_result, server_call, server_result
from .anthropic_tools import ToolBox
from .chat import Chat, GenerationOptions, Message, Reasoning, ResponseFormat, ToolCall, ToolChoice
from .decode import invalid, missing, present, shown, unsupported
from .fields import MESSAGES, MESSAGES_IGNORED, RequestDecoder
from .parts import Content, Text, said
from .reasoning import Thinking, one_of, thinking_of
from .sampling import MAX_MESSAGES, StopStrings, max_tokens, options, stop_strings
from .signature import opened
from .structured_output import UNSENT, StructuredFields, response_format, schema_format
from .tool_fields import checked_choice

# In a JSON text this is no part of a string, whose quotes are escaped.
MARKED = re.compile(rb'"cache_control"\s*:\s*\{')
ROLES = ("user", "assistant", "system")
LEVELS = ("low", "medium", "high", "xhigh", "max")
MODES: Mapping[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "any": "required",
    "tool": "required",
    "none": "none",
}
UNBUILT_BLOCKS = {"image": "image input"}
# Blocks that are read as texts, and in whose turns they are.
SERVER_CALLS = ("server_tool_use", "mcp_tool_use")
SERVER_TOOLS = (
    *("web_search", "web_fetch", "tool_search", "mcp", "advisor"),
    *("code_execution", "bash_code_execution", "text_editor_code_execution"),
)
TEXT_BLOCKS = {
    **dict.fromkeys(("document", "search_result"), "user"),
    **dict.fromkeys(SERVER_CALLS, "assistant"),
    **dict.fromkeys((f"{name}_tool_result" for name in SERVER_TOOLS), "assistant"),
}


class OutputFormat(Struct):
    type: str
    schema: Raw = field(default_factory=Raw)


class OutputConfig(Struct):
    format: OutputFormat | None = None
    effort: str | None = None


class InputToolChoice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesRequest(StructuredFields, kw_only=True):
    """A request for an answer, or for its prompt to be counted."""

    model: str | None = None
    messages: Annotated[list[InputMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[InputBlock] | None = None
    thinking: Thinking | None = None
    tools: list[InputTool] | None = None
    tool_choice: InputToolChoice | None = None
    stop_sequences: StopStrings | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None  # marks the whole prompt; others mark a block
    output_format: OutputFormat | None = None  # its name before


DECODER = RequestDecoder(MessagesRequest, MESSAGES, MESSAGES_IGNORED)


def decode_request(body: bytes) -> Chat:
    """Decode a request; one of no tokens only puts its prompt into the prefix cache."""
    request = DECODER.decode(body)
    limit = max_tokens(request, 0)
    if limit is None:
        raise missing("max_tokens")
    settings = replace(options(request, limit), cache_marked=bool(MARKED.search(body)))
    thinking = request.thinking
    if thinking and thinking.budget_tokens and thinking.budget_tokens >= limit:
        raise invalid("thinking.budget_tokens", f"must be less than max_tokens, which is {limit}")
    if stops := stop_strings("stop_sequences", request.stop_sequences):
        settings = replace(settings, stop=stops)
    return _chat(request, settings)


def decode_count(body: bytes) -> Chat:
    """Decode the body of count_tokens: a conversation whose prompt is to be counted."""
    return _chat(DECODER.decode(body), GenerationOptions())


def _chat(request: MessagesRequest, options: GenerationOptions) -> Chat:
    system = (_system(request.system),) if request.system else ()
    box = ToolBox(request.tools or ())
    box.read(request.messages)
    each = (_messages(*placed) for placed in _standing(request.messages))
    turns = (*system, *chain.from_iterable(each))
    # A last turn of the assistant is a beginning that the model goes on from.
    last = turns[-1]
    continues = last.role == "assistant" and bool(last.text) and not last.calls
    format = response_format(request, _formats(request))
    if continues and format is not None:  # as at Anthropic's: it would be the form of a part
        raise invalid(format.field, "cannot be had where the last message is the assistant's")
    return Chat(
        model=request.model or "",
        messages=turns,
        options=options,
        reasoning=_reasoning(request),
        continue_final=continues,
        response_format=format,
        tools=box.tools,
        tool_choice=box.choice(
            checked_choice(box.tools, _choice(request.tool_choice), "tool_choice")
        ),
        call_prefix="toolu_",
    )


def _choice(choice: InputToolChoice | None) -> ToolChoice:
    if choice is None:
        return ToolChoice()
    if choice.type not in MODES:
        allowed = ", ".join(MODES)
        raise invalid("tool_choice.type", f"must be one of {allowed}, not {shown(choice.type)}")
    names = (present(choice.name, "tool_choice.name"),) if choice.type == "tool" else ()
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
            raise missing(f"{name}.schema")
        yield schema_format(name, format.schema)


def _reasoning(request: MessagesRequest) -> Reasoning:
    """Return what is asked of thoughts; effort alone is no wish for them, as at Anthropic's.

    Of efforts the newest counts, which may be a turn's.
    """
    asked: list[tuple[Effort | OutputConfig | None, str]] = [(request.output_config, "")]
    turns = enumerate(request.messages)
    asked += [(turn.output_config, f"messages[{at}].") for at, turn in turns]
    levels = [
        one_of(config.effort, LEVELS, f"{place}output_config.effort")
        for config, place in asked
        if config and config.effort
    ]
    return replace(thinking_of(request.thinking), effort=levels[-1] if levels else None)


def _system(system: str | list[InputBlock]) -> Message:
    return Message("system", _texts(system, "system"), in_parts=isinstance(system, list))


def _standing(messages: Sequence[InputMessage]) -> Iterator[tuple[InputMessage, str]]:
    """Yield messages with their places, but what the system said for an earlier turn alone."""
    newest = max((at for at, each in enumerate(messages) if each.role == "user"), default=-1)
    for at, message in enumerate(messages):
        if at > newest or message.clear_at != "next_user_message":
            yield message, f"messages[{at}]"


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
            texts.append(Text(present(block.text, f"{where}.text")))
        elif block.type == "thinking" and role == "assistant":
            thoughts.append(_thought(block, where))
        elif block.type == "tool_use" and role == "assistant":
            id_, name = present(block.id, f"{where}.id"), present(block.name, f"{where}.name")
            calls.append(ToolCall(id_, name, msgspec.json.encode(block.input or {}).decode()))
        elif TEXT_BLOCKS.get(block.type) == role:
            texts.append(Text(_as_text(block, where)))
        elif block.type != "redacted_thinking" or role != "assistant":
            raise _unknown_block(block.type, f"{where}.type")
    reasoning = "\n".join(thoughts) or None
    return Message(role, tuple(texts), reasoning, calls=tuple(calls), in_parts=True)


def _as_text(block: InputBlock, place: str) -> str:
    """Return a block that no template knows as the text that it is to a model."""
    if block.type == "document":
        return document(block.source, block.title, block.context, place)
    if block.type == "search_result":
        found = _texts(_listed(block, place), f"{place}.content")
        texts = [part.text for part in found if isinstance(part, Text)]
        return search_result(block.source, block.title, texts, place)
    if block.type in SERVER_CALLS:
        return server_call(block.type, block.name, block.input)
    return server_result(block.type, msgspec.to_builtins(block.content))


def _listed(block: InputBlock, place: str) -> str | list[InputBlock]:
    """Return a content of blocks or a text."""
    if isinstance(block.content, dict):
        raise invalid(f"{place}.content", "must be a string or a list, not an object")
    return block.content or ""


def _thought(block: InputBlock, place: str) -> str:
    """Return a thought that comes back. Raises Refusal, in Anthropic's words, for a forged one."""
    thought = opened(block.signature or "", present(block.thinking, f"{place}.thinking"))
    if thought is None:
        name = re.sub(r"\[(\d+)\]", r".\1", place)
        message = f"{name}: Invalid `signature` in `thinking` block"
        raise Refusal(400, "invalid_value", message, f"{place}.signature")
    return thought


def _result(block: InputBlock, place: str) -> Message:
    content, listed = _listed(block, place), isinstance(block.content, list)
    return Message(
        "tool",
        _texts(content, f"{place}.content", {"document", "search_result"}),
        result_of=present(block.tool_use_id, f"{place}.tool_use_id"),
        failed=bool(block.is_error),
        in_parts=listed,
    )


def _texts(content: str | list[InputBlock], place: str, others: Collection[str] = ()) -> Content:
    """Return a content that can be nothing but texts, and `others` that are read as such."""
    if isinstance(content, str):
        return said(content)
    texts = []
    for i, block in enumerate(content):
        if block.type in others:
            texts.append(Text(_as_text(block, f"{place}[{i}]")))
        elif block.type == "text":
            texts.append(Text(present(block.text, f"{place}[{i}].text")))
        else:
            raise _unknown_block(block.type, f"{place}[{i}].type")
    return tuple(texts)


def _unknown_block(kind: str, place: str) -> Refusal:
    if kind in UNBUILT_BLOCKS:
        return unsupported(place, UNBUILT_BLOCKS[kind])
    return invalid(place, f"must be text here, not {shown(kind)}")
