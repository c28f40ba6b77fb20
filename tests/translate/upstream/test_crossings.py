"""From one dialect to another and back: what is said comes through, and what is answered."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

from bessemer.translate import anthropic, ollama, openai_chat
from bessemer.translate.anthropic_request import decode_request
from bessemer.translate.chat import (
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Done,
    Event,
    Finish,
    GenerationOptions,
    Identity,
    Message,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    Tool,
    ToolCall,
    ToolCallBegun,
    ToolChoice,
    Usage,
)
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.openai_responses import ResponseWriter, encode_piece
from bessemer.translate.openai_responses_body import encode_json
from bessemer.translate.openai_responses_request import decode_request as decode_responses
from bessemer.translate.parts import Document, Image, Part, SignedThought, Text, said
from bessemer.translate.upstream.anthropic import UPSTREAM as ANTHROPIC
from bessemer.translate.upstream.openai_chat import UPSTREAM as OPENAI_CHAT
from bessemer.translate.upstream.responses import UPSTREAM as RESPONSES
from bessemer.translate.upstream.table import UPSTREAMS
from bessemer.translate.upstream.upstream import Format, Upstream
from tests.translate.test_agents_of_families import Agent, claude_code, codex
from tests.translate.upstream.answered import answer, told
from tests.translate.upstream.sent import sent

WHO = Identity("id", 5, "m")
OFFICIAL: dict[Format, TypeAdapter[Any]] = {
    "anthropic": TypeAdapter(MessageCreateParamsStreaming),
    "responses": TypeAdapter(ResponseCreateParamsStreaming),
}
DECODERS: dict[str, Callable[[bytes], Chat]] = {
    "anthropic": decode_request,
    "responses": lambda body: decode_responses(body).chat(),
    "openai": openai_chat.decode_request,
    "ollama": cast("Callable[[bytes], Chat]", ollama.CHAT.decode_request),
}
BOTH = pytest.mark.parametrize("upstream", [ANTHROPIC, RESPONSES], ids=lambda each: each.format)
SIGNING = pytest.mark.parametrize(
    "upstream", [ANTHROPIC, RESPONSES, OPENAI_CHAT], ids=lambda each: each.format
)
CALLS = ToolCall("a", "add", '{"a":1}'), ToolCall("b", "clock", "{}")
PNG = Image(media_type="image/png", data=b"\x89PN")
PDF = Document(media_type="application/pdf", data=b"%PDF", title="A.pdf")
THOUGHT = {
    "anthropic": SignedThought("Hm.", "EqQBCgIYAh" * 4, "anthropic"),
    "responses": SignedThought("Hm.", "gAAAAAB", "responses"),
    "openai": SignedThought("Hm.", "signed", "openai"),
}


def conversation(format: str) -> Chat:
    """Return one with all that both dialects can say."""
    object_of = {"type": "object", "additionalProperties": False}
    return Chat(
        "claude-opus-4-8",
        (
            Message("system", said("Be brief.")),
            Message("user", (Text("What is this?"), PNG, PDF), in_parts=True),
            Message(
                "assistant", said("Let me see."), "Hm.", calls=CALLS, signed=(THOUGHT[format],)
            ),
            Message("tool", (Text("4"), PNG), result_of="a", in_parts=True),
            Message("tool", said("Noon"), result_of="b"),
            Message("assistant", said("So.")),
            Message("user", said("And?")),
        ),
        GenerationOptions(2000, temperature=0.5, top_p=0.9, stream=True),
        reasoning=Reasoning(True, "high"),
        tools=(
            Tool("add", "Adds.", {**object_of, "properties": {}}, True),
            Tool("clock", None, object_of),
        ),
        tool_choice=ToolChoice("required", ("add",), False),
    )


def plain(chat: Chat) -> Chat:
    """Return a conversation without what is each dialect's own way to say the same."""
    messages = tuple(
        replace(message, in_parts=False, content=tuple(map(_undetailed, message.content)))
        for message in chat.messages
    )
    format, options = chat.response_format, replace(chat.options, cache_marked=False)
    assert format is None
    return replace(chat, messages=messages, options=options, call_prefix="")


@BOTH
def test_a_conversation_is_read_as_it_was_sent(upstream: Upstream) -> None:
    chat = conversation(upstream.format)
    sent(upstream, chat, OFFICIAL[upstream.format])
    read = DECODERS[upstream.format](upstream.encode_request(chat, False))
    assert plain(read) == plain(chat)


@pytest.mark.parametrize("upstream", UPSTREAMS.values(), ids=UPSTREAMS)
@pytest.mark.parametrize("agent", [claude_code(), codex()], ids=["claude_code", "codex"])
def test_sessions_of_agents_as_recorded(upstream: Upstream, agent: Agent) -> None:
    """What their tools, calls, results and texts are, in their order, whoever is asked."""
    for body in (agent.first, agent.last):
        asked = agent.decode(body)
        chat = replace(asked, model="claude-opus-4-8")
        chat = replace(chat, options=replace(chat.options, stream=True))
        if upstream.format in OFFICIAL:
            sent(upstream, chat, OFFICIAL[upstream.format])
        read = DECODERS[upstream.format](upstream.encode_request(chat, False))
        has_ids = upstream.format != "ollama"
        assert spoken(read, has_ids) == spoken(chat, has_ids)
        system = [m.text for m in read.messages if m.role == "system"]
        assert "\n".join(system) == "\n".join(m.text for m in chat.messages if m.role == "system")
        assert {tool.name for tool in read.offered} == {tool.name for tool in chat.offered}
        if upstream.format in OFFICIAL:
            assert read.reasoning.effort == chat.reasoning.effort


def spoken(chat: Chat, ids: bool = True) -> list[tuple[Any, ...]]:
    """Return what users, the assistant and tools say, all in a row by one of them as one."""
    turns: list[tuple[Any, ...]] = []
    for message in chat.messages:
        calls = [(call.id if ids else "", call.name, call.values) for call in message.calls]
        about = message.role, message.result_of if ids else "", calls
        if message.role == "user" and turns and turns[-1][0] == "user":
            turns[-1] = (*about, f"{turns[-1][-1]}\n{message.text}")
        elif message.role != "system":
            turns.append((*about, message.text))
    return turns


def _undetailed(part: Part) -> Part:
    return replace(part, detail=None) if isinstance(part, Image) else part


# Answers.

END = Usage(10, 9, cached=2, reasoning=4, created=3)


def events(format: str) -> tuple[Event, ...]:
    """Return an answer with all that a server of a format may say."""
    return (
        AnswerStarted(Usage(0, 0)),
        ReasoningDelta(0, "H"),
        ReasoningDelta(0, "m."),
        ThoughtSigned(0, THOUGHT[format].signature, origin=format),
        ThoughtSigned(0, "blob", redacted=True, origin=format),
        TextDelta(0, "Let me"),
        TextDelta(0, " see."),
        ToolCallBegun(0, 0, "a", "add"),
        ArgumentsDelta(0, 0, '{"a":'),
        ArgumentsDelta(0, 0, "1}"),
        ToolCallBegun(0, 1, "b", "clock"),
        ArgumentsDelta(0, 1, "{}"),
        Finish(0, "tool_calls"),
        Done(END),
    )


def claude_stream(said: Iterable[Event]) -> list[ServerEvent]:
    stream = anthropic.Stream(WHO, GenerationOptions())
    return [event for each in said for event in stream.encode(each)]


def writer(stream: bool) -> ResponseWriter:
    body = {"model": "m", "input": "Hi", "stream": stream}
    return ResponseWriter(decode_responses(json.dumps(body).encode()), WHO, False, lambda: 8.5)


def codex_stream(said: Iterable[Event]) -> list[ServerEvent]:
    writing = writer(True)
    return [encode_piece(piece) for each in said for piece in writing.add(each)]


def codex_whole(said: Iterable[Event]) -> bytes:
    writing = writer(False)
    for each in said:
        writing.add(each)
    return encode_json(writing.body)


def chat_stream(said: Iterable[Event]) -> list[ServerEvent]:
    stream = openai_chat.Stream(WHO, GenerationOptions(include_usage=True))
    return [event for each in said for event in stream.encode(each)]


def ollama_stream(said: Iterable[Event]) -> list[ServerEvent]:
    stream = ollama.CHAT.stream(WHO, GenerationOptions())
    return [event for each in said for event in stream.encode(each)]


STREAMS: dict[Format, Callable[[Iterable[Event]], list[ServerEvent]]] = {
    "anthropic": claude_stream,
    "responses": codex_stream,
    "openai": chat_stream,
    "ollama": ollama_stream,
}


def read(upstream: Upstream, stream: Sequence[ServerEvent]) -> list[Event]:
    decoder = upstream.stream()
    out = [event for each in stream for event in decoder.decode(each)]
    assert decoder.over
    return told(out)


@SIGNING
@pytest.mark.parametrize("client", [*OFFICIAL, "openai"])
def test_an_answer_is_read_as_it_was_told(upstream: Upstream, client: Format) -> None:
    """From a server of one format, told to a client of another, who might be a server too."""
    said = events(upstream.format)
    again = read(UPSTREAMS[client], STREAMS[client](said))
    # Another dialect's signatures say whose they are; see test_origin.
    if client != upstream.format:
        signatures = {THOUGHT[upstream.format].signature, "blob"}
        again = [_stripped(event, signatures, upstream.format) for event in again]
    assert again[1:] == [*said[1:]]  # the first has what its server knows so far


def _stripped(event: Event, signatures: set[str], origin: str) -> Event:
    if not isinstance(event, ThoughtSigned):
        return event
    (signature,) = (each for each in signatures if event.signature == f"{origin}:{each}")
    return ThoughtSigned(0, signature, event.redacted, origin)


@SIGNING
@pytest.mark.parametrize("client", STREAMS)
def test_any_client_is_told_the_same(upstream: Upstream, client: Format) -> None:
    """It reads as the answer was, but for what its dialect has no place for."""
    said = events(upstream.format)
    answered, again = (
        answer(each) for each in (said, read(UPSTREAMS[client], STREAMS[client](said)))
    )
    (was,), (is_now,) = answered.choices, again.choices
    assert (is_now.text, is_now.reasoning, is_now.reason) == (was.text, was.reasoning, was.reason)
    calls = [[(call.name, call.values) for call in each.calls] for each in (was, is_now)]
    assert calls[0] == calls[1]
    assert (again.usage.prompt, again.usage.completion) == (END.prompt, END.completion)


@SIGNING
def test_a_whole_answer_is_the_same(upstream: Upstream) -> None:
    said = events(upstream.format)
    bodies = {
        "anthropic": lambda: anthropic.encode_response(answer(said), WHO),
        "responses": lambda: codex_whole(said),
        "openai": lambda: openai_chat.encode_response(answer(said), WHO),
    }
    body = bodies[upstream.format]()
    assert answer(upstream.decode_response(body)) == answer(said)


@SIGNING
@pytest.mark.parametrize("reason", ["stop", "length", "refusal"])
def test_ends(upstream: Upstream, reason: str) -> None:
    said = (AnswerStarted(Usage(0, 0)), TextDelta(0, "a"), Finish(0, reason), Done(END))
    assert read(upstream, STREAMS[upstream.format](said))[1:] == [*said[1:]]
