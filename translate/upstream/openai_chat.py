"""OpenAI's chat completions as an upstream: conversations to its requests, and those of the many
servers that speak its dialect.

What is left out in silence: thoughts, but for those that such a server signed (it refuses others),
and marks of what to cache, but for models that OpenRouter passes them on for. What vLLM, llama.cpp
and others take beside OpenAI's own fields is sent to all; OpenAI itself names what it refuses.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from ..chat import Chat, Message, Reasoning, Tool, ToolCall
from ..media import base64_of, data_url
from ..origin import known
from ..parts import Content, Document, Image, Kept, SignedThought, Text
from ..reasoning import effort_asked, is_off
from ..tool_turns import failures
from .call_ids import CallIds
from .losses import USUAL, Losses, check
from .openai_chat_answer import AnswerDecoder, decode_response
from .refusals import decode_error
from .upstream import Upstream, bearer

Json = dict[str, Any]

NAME = "OpenAI's chat completions"
# Models of OpenAI's own servers: they refuse max_tokens, which is all that some others know.
OPENAI = re.compile(r"(?:.*/)?(?:gpt-(?!oss)|o\d|chatgpt-|codex-)")
UNTHINKING = re.compile(r"(?:.*/)?(?:gpt-[34](?!\d)|chatgpt-|gpt-5-chat)")
# What asks a model for no thoughts, or as few as it can do with; others know "none".
LEAST = ((re.compile(r"(?:.*/)?o\d"), "low"), (re.compile(r"(?:.*/)?gpt-5(?!\.)"), "minimal"))
MARKED = re.compile(r"anthropic/|claude|google/|gemini")  # https://openrouter.ai/docs: caching
SAID = USUAL | {
    *("n", "stop", "seed", "logprobs", "logit_bias", "presence_penalty", "frequency_penalty"),
    *("top_k", "min_p", "repetition_penalty", "template"),
}
SAME = ("temperature", "top_p", "seed", "top_k", "min_p", "repetition_penalty")
PENALTIES = ("presence_penalty", "frequency_penalty")
AUDIO = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}


def encode_request(chat: Chat, lossy: bool) -> bytes:
    """Return the body that asks for an answer. Raises Refusal for what it cannot say."""
    losses, options = Losses(NAME, lossy), chat.options
    check(chat, SAID, losses)
    length = "max_completion_tokens" if OPENAI.match(chat.model) else "max_tokens"
    body: Json = {
        "model": chat.model,
        "messages": _messages(chat, losses),
        length: options.max_tokens,
        **{name: getattr(options, name) for name in SAME},
        **{name: getattr(options, name) or None for name in PENALTIES},
        "n": options.n if options.n > 1 else None,
        "stop": [*options.stop] or None,
        "logit_bias": {str(token): bias for token, bias in options.logit_bias.items()} or None,
        "logprobs": True if options.logprobs is not None else None,
        "top_logprobs": options.logprobs or None,
        "response_format": _format(chat, losses),
        "reasoning_effort": _effort(chat.reasoning, chat.model, options.max_tokens),
        "chat_template_kwargs": chat.template or None,
        **_tools(chat),
    }
    if options.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({key: value for key, value in body.items() if value is not None})


def _format(chat: Chat, losses: Losses) -> Json | None:
    format = chat.response_format
    if format is None:
        return None
    if format.kind == "json_object":
        return {"type": "json_object"}
    if format.kind != "json_schema":
        losses.note(format.field, "answers of a form but by a JSON schema")
        return None
    schema = msgspec.Raw(format.definition.encode())
    about = {"name": "answer", "schema": schema, "strict": format.strict}
    return {"type": "json_schema", "json_schema": about}


# Turns.


def _messages(chat: Chat, losses: Losses) -> list[Json]:
    """Return the turns; that a call failed is said in the text of its result."""
    ids, out = CallIds(), list[Json]()
    marked = MARKED.search(chat.model) is not None
    for results, group in groupby(failures(chat.messages), lambda turn: turn.role == "tool"):
        for message in group if not results else ():
            out.append(_message(message, ids, marked, losses))
        if results:
            out += _results(group, ids, marked, losses)
    return out


def _message(message: Message, ids: CallIds, marked: bool, losses: Losses) -> Json:
    content = _shortest([*_contents(message.content, marked, losses)])
    if message.role != "assistant":
        name = {"name": message.name} if message.name else {}
        return {"role": message.role, "content": content, **name}
    calls = [_call(call, ids.of_call(call)) for call in message.calls]
    thoughts = [*map(_thought, known(message.signed, "openai"))]
    return {
        "role": "assistant",
        "content": content or (None if calls else ""),
        **({"reasoning_details": thoughts} if thoughts else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _results(turns: Iterable[Message], ids: CallIds, marked: bool, losses: Losses) -> list[Json]:
    """Return results, which are texts; what else is in some of them is the user's next turn."""
    out, shown = list[Json](), list[Json]()
    for turn in turns:
        texts = tuple(part for part in turn.content if isinstance(part, Text))
        others = tuple(part for part in turn.content if not isinstance(part, Text))
        content = _shortest([*_contents(texts, marked, losses)])
        id = ids.of_result(turn)
        if others:
            said = Text(f"What the tool call {id} returned beside its text:")
            shown += _contents((said, *others), marked, losses)
        out.append({"role": "tool", "tool_call_id": id, "content": content})
    return [*out, {"role": "user", "content": shown}] if shown else out


def _thought(thought: SignedThought) -> Json:
    """Return a thought as OpenRouter has it. https://openrouter.ai/docs: reasoning tokens"""
    if thought.text or thought.omitted:
        kind = {"type": "reasoning.text", "text": thought.text}
        return kind | ({"signature": thought.signature} if thought.signature else {})
    return {"type": "reasoning.encrypted", "data": thought.signature}


def _call(call: ToolCall, id: str) -> Json:
    about = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": id, "type": "function", "function": about}


def _shortest(parts: list[Json]) -> str | list[Json]:
    if not parts:
        return ""
    plain = len(parts) == 1 and parts[0].keys() == {"type", "text"}
    return parts[0]["text"] if plain else parts


def _contents(content: Content, marked: bool, losses: Losses) -> Iterator[Json]:
    for part in content:
        if isinstance(part, Text):
            if part.text:
                yield {"type": "text", "text": part.text} | _mark(part.kept, marked)
        elif isinstance(part, Image):
            detail = {"detail": part.detail} if part.detail else {}
            if part.file_id is not None:
                losses.note(part.field, "images by the ids of files")
                continue
            url = part.url if part.url is not None else data_url(part)
            yield {"type": "image_url", "image_url": {"url": url, **detail}} | _mark(
                part.kept, marked
            )
        elif isinstance(part, Document):
            yield from _file(part, losses)
        elif (kind := AUDIO.get(part.media_type)) and part.data:
            sound = {"data": base64_of(part), "format": kind}
            yield {"type": "input_audio", "input_audio": sound}
        else:
            losses.note(part.field, "audio input but for wav and mp3")


def _file(part: Document, losses: Losses) -> Iterator[Json]:
    if part.file_id is not None:
        yield {"type": "file", "file": {"file_id": part.file_id}}
    elif part.url is not None:
        losses.note(part.field, "files by their addresses")
    else:
        name = part.title or f"document.{part.media_type.rpartition('/')[2] or 'pdf'}"
        yield {"type": "file", "file": {"filename": name, "file_data": data_url(part)}}


def _mark(kept: Kept, marked: bool) -> Json:
    if not (kept and marked):
        return {}
    return {"cache_control": {"type": "ephemeral", **({"ttl": kept} if kept != "5m" else {})}}


# Tools.


def _tools(chat: Chat) -> Json:
    """Return the tools, and the rule for calling them where there is one."""
    choice, names = chat.tool_choice, frozenset(chat.tool_choice.names)
    told = [tool for tool in chat.tools if not (tool.deferred and names) or tool.name in names]
    if not told:
        return {}
    rule: Json | str | None = choice.mode if choice.mode != "auto" else None
    if names and names != {tool.name for tool in told} and choice.mode != "none":
        named = [{"type": "function", "function": {"name": name}} for name in choice.names]
        one = choice.mode == "required" and len(named) == 1
        allowed = {"mode": choice.mode, "tools": named}
        rule = named[0] if one else {"type": "allowed_tools", "allowed_tools": allowed}
    parallel = None if choice.parallel else False
    return {"tools": [*map(_tool, told)], "tool_choice": rule, "parallel_tool_calls": parallel}


def _tool(tool: Tool) -> Json:
    """Return a tool; that a text keeps to a grammar is only told, in what describes it."""
    about = {"description": tool.description} if tool.description else {}
    parameters = {"parameters": tool.parameters} if tool.parameters is not None else {}
    strict = {"strict": True} if tool.strict and tool.grammar is None else {}
    return {"type": "function", "function": {"name": tool.name, **about, **parameters, **strict}}


def _effort(asked: Reasoning, model: str, limit: int | None) -> str | None:
    """Return how much a model is to think; those that cannot are told nothing."""
    if UNTHINKING.match(model):
        return None
    if is_off(asked):
        return next((least for names, least in LEAST if names.match(model)), "none")
    return effort_asked(asked, limit)


UPSTREAM = Upstream(
    format="openai",
    path="/v1/chat/completions",
    framing="sse",
    headers={},
    authorization=bearer,
    encode_request=encode_request,
    decode_response=decode_response,
    stream=AnswerDecoder,
    decode_error=decode_error,
)
