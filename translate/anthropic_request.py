"""Anthropic's messages: requests, and bodies whose prompts are to be counted, to Chat."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from ..engine.request import Refusal
from .anthropic_blocks import Effort, InputBlock, InputMessage, InputTool, kept
from .anthropic_documents import document, image, search_result, server_call, server_result
from .anthropic_tools import ToolBox
from .chat import Chat, GenerationOptions, Message, Reasoning, ResponseFormat, ToolCall, ToolChoice
from .decode import invalid, missing, present, shown
from .fields import MESSAGES, MESSAGES_IGNORED, RequestDecoder
from .origin import brought
from .parts import Content, Part, SignedThought, Text, said
from .reasoning import Thinking, one_of, thinking_of
from .sampling import MAX_MESSAGES, StopStrings, max_tokens, options, stop_strings
from .signature import NAME, opened
from .structured_output import UNSENT, StructuredFields, response_format, schema_format
from .tool_fields import checked_choice

# In a JSON text this is no part of a string, whose quotes are escaped.
MARKED = re.compile(rb'"cache_control"\s*:\s*\{')
DIALECT = "anthropic"
ROLES = ("user", "assistant", "system")
LEVELS = ("low", "medium", "high", "xhigh", "max")
MODES: Mapping[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "any": "required",
    "tool": "required",
    "none": "none",
}
# Blocks that are no texts or are read as such, and in whose turns they are.
SERVER_CALLS = ("server_tool_use", "mcp_tool_use")
SERVER_TOOLS = (
    *("web_search", "web_fetch", "tool_search", "mcp", "advisor"),
    *("code_execution", "bash_code_execution", "text_editor_code_execution"),
)
FOUND = ("document", "search_result", "image")  # which tools return, too
OTHER_BLOCKS = {
    **dict.fromkeys(FOUND, "user"),
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
    parts: list[Part] = []
    thoughts: list[str] = []
    signed: list[SignedThought] = []
    calls: list[ToolCall] = []
    for block, where in blocks:
        if block.type == "text":
            parts.append(Text(present(block.text, f"{where}.text"), kept(block)))
        elif block.type == "thinking" and role == "assistant":
            text, thought = _thought(block, where)
            thoughts.append(text)
            signed += thought
        elif block.type == "redacted_thinking" and role == "assistant":
            signed.append(brought("", present(block.data, f"{where}.data"), DIALECT))
        elif block.type == "tool_use" and role == "assistant":
            id_, name = present(block.id, f"{where}.id"), present(block.name, f"{where}.name")
            arguments = msgspec.json.encode(block.input or {}).decode()
            calls.append(ToolCall(id_, name, arguments, kept(block)))
        elif OTHER_BLOCKS.get(block.type) == role:
            parts += _parts(block, where)
        else:
            raise _unknown_block(block.type, f"{where}.type")
    return Message(
        role,
        tuple(parts),
        "\n".join(filter(None, thoughts)) or None,
        calls=tuple(calls),
        in_parts=True,
        signed=tuple(signed),
    )


def _parts(block: InputBlock, place: str) -> Content:
    """Return a block that is no text, or one that no template knows as the text that it is."""
    if block.type == "image":
        return (image(block.source, kept(block), place),)
    if block.type == "document":
        return document(block.source, block.title, block.context, kept(block), place)
    if block.type == "search_result":
        found = _texts(_listed(block, place), f"{place}.content")
        texts = [part.text for part in found if isinstance(part, Text)]
        return (Text(search_result(block.source, block.title, texts, place), kept(block)),)
    if block.type in SERVER_CALLS:
        return (Text(server_call(block.type, block.name, block.input)),)
    returned = block.content
    if isinstance(returned, list):  # where a mark stands is nothing that a model should read
        returned = [msgspec.structs.replace(each, cache_control=None) for each in returned]
    return (Text(server_result(block.type, msgspec.to_builtins(returned))),)


def _listed(block: InputBlock, place: str) -> str | list[InputBlock]:
    """Return a content of blocks or a text."""
    if isinstance(block.content, dict):
        raise invalid(f"{place}.content", "must be a string or a list, not an object")
    return block.content or ""


def _thought(block: InputBlock, place: str) -> tuple[str, tuple[SignedThought, ...]]:
    """Return a thought that comes back, and how another server signed it, if one did.

    Raises Refusal, in Anthropic's words, for a forged one.
    """
    text, signature = present(block.thinking, f"{place}.thinking"), block.signature or ""
    signed = brought(text, signature, DIALECT)
    thought = opened(signature, text) if signed.origin == DIALECT else text
    if thought is None:
        name = re.sub(r"\[(\d+)\]", r".\1", place)
        message = f"{name}: Invalid `signature` in `thinking` block"
        raise Refusal(400, "invalid_value", message, f"{place}.signature")
    if not signature or signature.startswith(NAME):
        return thought, ()
    return thought, (replace(signed, omitted=not text),)


def _result(block: InputBlock, place: str) -> Message:
    content, listed = _listed(block, place), isinstance(block.content, list)
    parts = _texts(content, f"{place}.content", FOUND)
    if (mark := kept(block)) and parts:
        parts = (*parts[:-1], replace(parts[-1], kept=mark))
    return Message(
        "tool",
        parts,
        result_of=present(block.tool_use_id, f"{place}.tool_use_id"),
        failed=bool(block.is_error),
        in_parts=listed,
    )


def _texts(content: str | list[InputBlock], place: str, others: Collection[str] = ()) -> Content:
    """Return a content that can be nothing but texts, and blocks of `others`."""
    if isinstance(content, str):
        return said(content)
    parts: list[Part] = []
    for i, block in enumerate(content):
        if block.type in others:
            parts += _parts(block, f"{place}[{i}]")
        elif block.type == "text":
            parts.append(Text(present(block.text, f"{place}[{i}].text"), kept(block)))
        else:
            raise _unknown_block(block.type, f"{place}[{i}].type")
    return tuple(parts)


def _unknown_block(kind: str, place: str) -> Refusal:
    return invalid(place, f"must be text here, not {shown(kind)}")
