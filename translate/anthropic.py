"""Anthropic's messages: request to Chat, answer and events to JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from ..engine.request import Refusal
from .chat import (
    Answer,
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Content,
    Done,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Identity,
    Message,
    ReasoningDelta,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallBegun,
    ToolChoice,
    Usage,
    said,
)
from .decode import invalid, shown, unsupported
from .dialect import COMMENT, CountDialect, Dialect, ServerEvent
from .errors import anthropic_error
from .fields import MESSAGES, RequestDecoder
from .sampling import MAX_MESSAGES, SamplingFields, StopStrings, max_tokens, options, stop_strings
from .tool_fields import checked_choice, checked_tool

Events = tuple[ServerEvent, ...]

encode_json = msgspec.json.Encoder().encode

ROLES = ("user", "assistant", "system")
THINKING = {"enabled": True, "adaptive": True, "disabled": False}
MODES: Mapping[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "any": "required",
    "tool": "required",
    "none": "none",
}
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
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


class InputToolChoice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesRequest(SamplingFields, kw_only=True):
    """A request for an answer, or for its prompt to be counted."""

    model: str
    messages: Annotated[list[InputMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[InputBlock] | None = None
    thinking: Thinking | None = None
    tools: list[InputTool] | None = None
    tool_choice: InputToolChoice | None = None
    stop_sequences: StopStrings | None = None


class UsageBody(Struct):
    """`input_tokens` are those that the cache did not hold, as Anthropic counts."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class TextBlock(Struct, tag="text"):
    text: str


class ThinkingBlock(Struct, tag="thinking"):
    thinking: str
    signature: str = ""


class ToolUseBlock(Struct, tag="tool_use"):
    id: str
    name: str
    input: Any


OutputBlock = TextBlock | ThinkingBlock | ToolUseBlock


class MessageBody(Struct, tag="message"):
    id: str
    model: str
    content: list[OutputBlock]
    usage: UsageBody
    stop_reason: str | None = None
    stop_sequence: str | None = None
    role: str = "assistant"


class TextPiece(Struct, tag="text_delta"):
    text: str


class ThinkingPiece(Struct, tag="thinking_delta"):
    thinking: str


class SignaturePiece(Struct, tag="signature_delta"):
    signature: str


class JsonPiece(Struct, tag="input_json_delta"):
    partial_json: str


Piece = TextPiece | ThinkingPiece | SignaturePiece | JsonPiece


class Ending(Struct):
    stop_reason: str | None
    stop_sequence: str | None


class MessageStart(Struct, tag="message_start"):
    message: MessageBody


class BlockStart(Struct, tag="content_block_start"):
    index: int
    content_block: OutputBlock


class BlockDelta(Struct, tag="content_block_delta"):
    index: int
    delta: Piece


class BlockStop(Struct, tag="content_block_stop"):
    index: int


class MessageDelta(Struct, tag="message_delta"):
    delta: Ending
    usage: UsageBody


class CountBody(Struct):
    input_tokens: int


DECODER = RequestDecoder(MessagesRequest, MESSAGES)
PING = ServerEvent(b'{"type":"ping"}', "ping")
MESSAGE_STOP = ServerEvent(b'{"type":"message_stop"}', "message_stop")
SIGNED = SignaturePiece("")  # clients send it back with the block; nobody checks it here


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


def encode_response(answer: Answer, identity: Identity) -> bytes:
    choice = answer.choices[0]
    content: list[OutputBlock] = [ThinkingBlock(choice.reasoning)] if choice.reasoning else []
    blank = not choice.calls and answer.usage.completion  # none at all for an answer of no tokens
    content += [TextBlock(choice.text)] if choice.text or blank else []
    content += [
        ToolUseBlock(c.id, c.name, msgspec.Raw((c.arguments or "{}").encode()))
        for c in choice.calls
    ]
    ending = _ending(choice.reason, choice.stop)
    return encode_json(
        MessageBody(
            identity.id,
            identity.model,
            content,
            _usage(answer.usage),
            ending.stop_reason,
            ending.stop_sequence,
        )
    )


def encode_count(tokens: int) -> bytes:
    return encode_json(CountBody(tokens))


class Stream:
    """The events of one answer: blocks one after the other, each opened, filled and closed."""

    def __init__(self, identity: Identity, options: GenerationOptions) -> None:
        self._identity = identity
        self._open: type[OutputBlock] | None = None
        self._index = -1  # of the newest block
        self._ending = Ending(None, None)
        self._started = False
        self._tokens = options.max_tokens != 0

    def encode(self, event: Event) -> Events:
        return self.handlers[type(event)](self, event)

    def _start(self, event: AnswerStarted) -> Events:
        self._started = True
        who = self._identity
        message = MessageBody(who.id, who.model, [], _usage(event.usage))
        return (_server_event("message_start", MessageStart(message)), PING)

    def _text_delta(self, event: TextDelta) -> Events:
        return (*self._switch(TextBlock("")), self._delta(TextPiece(event.text)))

    def _reasoning_delta(self, event: ReasoningDelta) -> Events:
        return (*self._switch(ThinkingBlock("")), self._delta(ThinkingPiece(event.text)))

    def _tool_call(self, event: ToolCallBegun) -> Events:
        return (*self._close(), *self._switch(ToolUseBlock(event.id, event.name, {})))

    def _arguments(self, event: ArgumentsDelta) -> Events:
        return (self._delta(JsonPiece(event.text)),)

    def _finish(self, event: Finish) -> Events:
        self._ending = _ending(event.reason, event.stop)
        # Claude Code shows nothing for an answer without a text block.
        blank = self._tokens and self._open is not ToolUseBlock
        text = self._switch(TextBlock("")) if blank else ()
        return (*text, *self._close())

    def _done(self, event: Done) -> Events:
        delta = MessageDelta(self._ending, _usage(event.usage))
        return (_server_event("message_delta", delta), MESSAGE_STOP)

    def _heartbeat(self, event: Heartbeat) -> Events:
        return (PING if self._started else COMMENT,)

    def _failure(self, event: Failure) -> Events:
        return (ServerEvent(anthropic_error(event.refusal), "error"),)

    def _switch(self, block: OutputBlock) -> Events:
        """Open a block, unless one of its kind is open."""
        if self._open is type(block):
            return ()
        closing = self._close()
        self._open = type(block)
        self._index += 1
        return (*closing, _server_event("content_block_start", BlockStart(self._index, block)))

    def _close(self) -> Events:
        if self._open is None:
            return ()
        stop = _server_event("content_block_stop", BlockStop(self._index))
        signed = (self._delta(SIGNED),) if self._open is ThinkingBlock else ()
        self._open = None
        return (*signed, stop)

    def _delta(self, piece: Piece) -> ServerEvent:
        return _server_event("content_block_delta", BlockDelta(self._index, piece))

    handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], Events]]] = {
        AnswerStarted: _start,
        TextDelta: _text_delta,
        ReasoningDelta: _reasoning_delta,
        ToolCallBegun: _tool_call,
        ArgumentsDelta: _arguments,
        Finish: _finish,
        Done: _done,
        Heartbeat: _heartbeat,
        Failure: _failure,
    }


def _chat(request: MessagesRequest, options: GenerationOptions) -> Chat:
    system = (_system(request.system),) if request.system else ()
    each = (_messages(m, f"messages[{i}]") for i, m in enumerate(request.messages))
    turns = (*system, *chain.from_iterable(each))
    tools = tuple(_tools(request.tools or ()))
    return Chat(
        model=request.model,
        messages=turns,
        options=options,
        template=thinking_kwargs(request.thinking),
        # A last turn of the assistant is a beginning that the model goes on from.
        continue_final=turns[-1].role == "assistant"
        and bool(turns[-1].text)
        and not turns[-1].calls,
        tools=tools,
        tool_choice=checked_choice(tools, _choice(request.tool_choice), "tool_choice"),
        call_prefix="toolu_",
    )


def _tools(tools: Sequence[InputTool]) -> Iterator[Tool]:
    """Yield the tools that a client has itself."""
    for at, tool in enumerate(tools):
        if tool.type in (None, "custom"):
            place, schema = f"tools[{at}]", tool.input_schema
            yield checked_tool(tool.name, tool.description, schema, tool.strict, place)


def _choice(choice: InputToolChoice | None) -> ToolChoice:
    if choice is None:
        return ToolChoice()
    if choice.type not in MODES:
        allowed = ", ".join(MODES)
        raise invalid("tool_choice.type", f"must be one of {allowed}, not {shown(choice.type)}")
    names = (_present(choice.name, "tool_choice.name"),) if choice.type == "tool" else ()
    return ToolChoice(MODES[choice.type], names, not choice.disable_parallel_tool_use)


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
            calls.append(ToolCall(id_, name, encode_json(block.input or {}).decode()))
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


def _ending(reason: str, stop: str | None) -> Ending:
    return Ending("stop_sequence" if stop is not None else STOP_REASONS[reason], stop)


def _usage(usage: Usage) -> UsageBody:
    return UsageBody(usage.prompt - usage.cached, 0, usage.cached, usage.completion)


def _server_event(name: str, body: Struct) -> ServerEvent:
    return ServerEvent(encode_json(body), name)


DIALECT = Dialect(
    prefix="msg_",
    decode_request=decode_request,
    encode_response=encode_response,
    stream=Stream,
    encode_error=anthropic_error,
    count=CountDialect(decode_count, encode_count),
)
