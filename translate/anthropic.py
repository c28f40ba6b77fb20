"""Anthropic's messages: answers and events to JSON."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .anthropic_request import DECODER, decode_count, decode_request
from .anthropic_request import DIALECT as NAME
from .chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Identity,
    ReasoningDelta,
    Shortened,
    TextDelta,
    ThoughtSealed,
    ThoughtSigned,
    ToolCallBegun,
    Usage,
)
from .dialect import COMMENT, CountDialect, Dialect, ServerEvent
from .errors import AnthropicErrorBody, anthropic_error
from .operation import Operation
from .origin import carried
from .parts import SignedThought
from .signature import Signer, seal

Events = tuple[ServerEvent, ...]

encode_json = msgspec.json.Encoder().encode

PAGE = 32  # tokens that prompts share together, as the engine does
STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refusal": "refusal",
}


class CacheCreation(Struct):
    """The tokens created by how long they may stay, which is as long as there is room."""

    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int = 0


class OutputDetails(Struct):
    thinking_tokens: int


class UsageBody(Struct):
    """The tokens of a prompt that the cache held, those that it has now, and all others.

    As with Anthropic, none is created where the request marks nothing to be cached.
    """

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    cache_creation: CacheCreation | UnsetType = UNSET
    context_overflow: Shortened | UnsetType = UNSET
    output_tokens_details: OutputDetails | UnsetType = UNSET  # where there were thoughts


class TextBlock(Struct, tag="text"):
    text: str


class ThinkingBlock(Struct, tag="thinking"):
    thinking: str
    signature: str = ""


class RedactedBlock(Struct, tag="redacted_thinking"):
    data: str


class ToolUseBlock(Struct, tag="tool_use"):
    id: str
    name: str
    input: Any


OutputBlock = TextBlock | ThinkingBlock | RedactedBlock | ToolUseBlock


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


class MessageStop(Struct, tag="message_stop"):
    pass


class Ping(Struct, tag="ping"):
    pass


class CountBody(Struct):
    input_tokens: int


PING = ServerEvent(msgspec.json.encode(Ping()), "ping")
MESSAGE_STOP = ServerEvent(msgspec.json.encode(MessageStop()), "message_stop")


def encode_response(answer: Answer, identity: Identity) -> bytes:
    choice = answer.choices[0]
    content: list[OutputBlock] = [*_thoughts(choice)]
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


def _thoughts(choice: AnswerChoice) -> Iterator[OutputBlock]:
    """Yield the thoughts that another server signed, and what there is of our own."""
    yield from map(_signed, choice.signed)
    ours = choice.reasoning.removeprefix("".join(each.text for each in choice.signed))
    if ours:
        yield ThinkingBlock(ours, Signer(ours).signature)
    elif choice.sealed:
        yield ThinkingBlock("", seal(choice.sealed))


def _signed(thought: SignedThought) -> ThinkingBlock | RedactedBlock:
    signature = carried(thought, NAME)
    if thought.text or thought.omitted:
        return ThinkingBlock(thought.text, signature)
    return RedactedBlock(signature)


def encode_count(tokens: int) -> bytes:
    return encode_json(CountBody(tokens))


class Stream:
    """The events of one answer: blocks one after the other, each opened, filled and closed."""

    def __init__(self, identity: Identity, options: GenerationOptions) -> None:
        self._identity = identity
        self._open: type[OutputBlock] | None = None
        self._signer = Signer()  # of the open thought
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
        opening = self._switch(ThinkingBlock(""))
        if opening:
            self._signer = Signer()
        self._signer.add(event.text)
        return (*opening, self._delta(ThinkingPiece(event.text)))

    def _sealed(self, event: ThoughtSealed) -> Events:
        opening = self._switch(ThinkingBlock(""))
        return (*opening, *self._close(seal(event.text)))

    def _thought_signed(self, event: ThoughtSigned) -> Events:
        """Close the thought that is open; of another there is nothing but this."""
        omitted = self._open is not ThinkingBlock and not event.redacted
        thought = SignedThought("", event.signature, event.origin, omitted)
        signature = carried(thought, NAME)
        if event.redacted:
            return (*self._close(), *self._switch(RedactedBlock(signature)), *self._close())
        return (*self._switch(ThinkingBlock("")), *self._close(signature))

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

    def _close(self, signature: str = "") -> Events:
        """Close the open block, if there is one; a thought is signed."""
        if self._open is None:
            return ()
        signed: Events = ()
        if self._open is ThinkingBlock:
            signed = (self._delta(SignaturePiece(signature or self._signer.signature)),)
        self._open = None
        return (*signed, _server_event("content_block_stop", BlockStop(self._index)))

    def _delta(self, piece: Piece) -> ServerEvent:
        return _server_event("content_block_delta", BlockDelta(self._index, piece))

    handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], Events]]] = {
        AnswerStarted: _start,
        TextDelta: _text_delta,
        ReasoningDelta: _reasoning_delta,
        ThoughtSealed: _sealed,
        ThoughtSigned: _thought_signed,
        ToolCallBegun: _tool_call,
        ArgumentsDelta: _arguments,
        Finish: _finish,
        Done: _done,
        Heartbeat: _heartbeat,
        Failure: _failure,
    }


def _ending(reason: str, stop: str | None) -> Ending:
    return Ending("stop_sequence" if stop is not None else STOP_REASONS[reason], stop)


def _usage(usage: Usage) -> UsageBody:
    full = usage.prompt // PAGE * PAGE  # what is sharable of a prompt
    created = max(full - usage.cached, 0) if usage.cache_marked else 0
    created = created if usage.created is None else usage.created
    return UsageBody(
        usage.prompt - usage.cached - created,
        created,
        usage.cached,
        usage.completion,
        CacheCreation(created) if usage.cache_marked and usage.created is None else UNSET,
        usage.shortened or UNSET,
        OutputDetails(usage.reasoning) if usage.reasoning else UNSET,
    )


def _server_event(name: str, body: Struct) -> ServerEvent:
    return ServerEvent(encode_json(body), name)


Streamed = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping
HELLO = [{"role": "user", "content": "Hello!"}]
DIALECT = Dialect(
    prefix="msg_",
    decode_request=decode_request,
    encode_response=encode_response,
    stream=Stream,
    encode_error=anthropic_error,
    operation=Operation(
        summary="Answer a conversation, as Anthropic's Messages API does",
        request=DECODER,
        response=MessageBody,
        pieces=(Streamed, AnthropicErrorBody),
        error=AnthropicErrorBody,
        example={"max_tokens": 64, "messages": HELLO},
    ),
    count=CountDialect(
        decode_count,
        encode_count,
        Operation(
            summary="Count the tokens that a conversation's prompt has",
            request=DECODER,
            response=CountBody,
            error=AnthropicErrorBody,
            example={"messages": HELLO},
        ),
    ),
)
