"""Anthropic's Messages API as an upstream: conversations to its requests.

What is left out in silence: thoughts that its servers did not sign, which they take from nobody,
and in how much detail images are looked at.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from ..chat import Chat, Message, Reasoning, Tool, ToolCall
from ..media import base64_of
from ..origin import known
from ..parts import Content, Document, Image, Kept, Media, Part, SignedThought, Text
from ..reasoning import effort_of, is_off, most_tokens
from .anthropic_answer import AnswerDecoder, decode_response
from .call_ids import CallIds
from .losses import USUAL, Losses, check
from .refusals import decode_error
from .upstream import Upstream

Json = dict[str, Any]

NAME = "Anthropic's API"
USUAL_TOKENS = 32_000  # of an answer whose request has no limit: all models since Claude 4 take it
MIN_BUDGET = 1024
UNLIMITED = 0.5  # of an answer's tokens may be thoughts where nobody says how many
# The models that think as much as they see fit, by an effort; older ones, and other servers', are
# given a budget. https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
ADAPTIVE = re.compile(r"claude-(?:mythos|fable|[a-z]+-(?:4-[6-9](?!\d)|[5-9](?!\d)))")
EFFORTS = {"minimal": "low"}  # others are the same
PLAIN = re.compile(r"text/|application/json\b")
SAID = USUAL | {"top_k", "stop"}


def encode_request(chat: Chat, lossy: bool) -> bytes:
    """Return the body that asks for an answer. Raises Refusal for what it cannot say."""
    losses, options = Losses(NAME, lossy), chat.options
    check(chat, SAID, losses)
    limit = options.max_tokens
    if limit is None:
        limit = options.usual_max_tokens or USUAL_TOKENS
    body: Json = {"model": chat.model, "max_tokens": limit}
    body |= {
        "system": _system(chat.messages, losses),
        "messages": _messages(chat.messages, losses),
        "stop_sequences": _stops(options.stop, losses),
        "temperature": _temperature(options.temperature, losses),
        "top_p": options.top_p,
        "top_k": options.top_k or None,
        "stream": options.stream or None,
        "cache_control": {"type": "ephemeral"} if _marked_as_a_whole(chat) else None,
        **_tools(chat),
        **_reasoning(chat, limit, losses),
    }
    if format := _format(chat, losses):
        body["output_config"] = {**(body.get("output_config") or {}), "format": format}
    return msgspec.json.encode({key: value for key, value in body.items() if value is not None})


def _stops(stops: tuple[str, ...], losses: Losses) -> list[str] | None:
    blank = [stop for stop in stops if not stop.strip()]
    if blank:
        losses.note("stop", "stop strings of white space alone")
    return [stop for stop in stops if stop not in blank] or None


def _temperature(temperature: float | None, losses: Losses) -> float | None:
    if temperature is not None and temperature > 1:
        losses.note("temperature", "a temperature above 1")
        return 1.0
    return temperature


def _marked_as_a_whole(chat: Chat) -> bool:
    """Return whether the request marked no part of its prompt, but all of it."""
    parts = (part for message in chat.messages for part in message.content)
    calls = (call for message in chat.messages for call in message.calls)
    marked = any(each.kept for each in (*parts, *calls, *chat.tools))
    return chat.options.cache_marked and not marked


def _format(chat: Chat, losses: Losses) -> Json | None:
    format = chat.response_format
    if format is None:
        return None
    if format.kind != "json_schema":
        losses.note(format.field, "answers of a form but by a JSON schema")
        return None
    return {"type": "json_schema", "schema": msgspec.Raw(format.definition.encode())}


# Turns.


def _system(messages: Iterable[Message], losses: Losses) -> str | list[Json] | None:
    """Return what the system says, wherever it does: a text, or blocks where some are marked."""
    parts = [part for each in messages if each.role == "system" for part in each.content]
    texts = [part for part in parts if isinstance(part, Text) and part.text]
    for part in parts:
        if isinstance(part, Media):
            losses.note(part.field, "system prompts other than texts")
    if any(text.kept for text in texts):
        return [_text(text) for text in texts]
    return "\n".join(text.text for text in texts) or None


def _messages(messages: Iterable[Message], losses: Losses) -> list[Json]:
    """Return the turns, of which all in a row by one role are one; results are told first."""
    ids, out = CallIds(), list[Json]()
    spoken = (message for message in messages if message.role != "system")
    for is_ours, group in groupby(spoken, lambda message: message.role == "assistant"):
        blocks = [block for message in group for block in _blocks(message, ids, losses)]
        if not is_ours:
            blocks.sort(key=lambda block: block["type"] != "tool_result")
        if blocks:
            role = "assistant" if is_ours else "user"
            out.append({"role": role, "content": _shortest(blocks)})
    return out


def _blocks(message: Message, ids: CallIds, losses: Losses) -> Iterator[Json]:
    if message.role == "tool":
        yield _result(message, ids, losses)
        return
    yield from map(_thought, known(message.signed, "anthropic"))
    yield from _contents(message.content, losses, message.role != "assistant")
    yield from (_call(call, ids.of_call(call)) for call in message.calls)


def _shortest(blocks: list[Json]) -> str | list[Json]:
    plain = len(blocks) == 1 and blocks[0].keys() == {"type", "text"}
    return blocks[0]["text"] if plain else blocks


def _thought(thought: SignedThought) -> Json:
    if thought.text or thought.omitted:
        return {"type": "thinking", "thinking": thought.text, "signature": thought.signature}
    return {"type": "redacted_thinking", "data": thought.signature}


def _call(call: ToolCall, id: str) -> Json:
    block = {"type": "tool_use", "id": id, "name": call.name, "input": call.values}
    return block | _cache_control(call.kept)


def _result(message: Message, ids: CallIds, losses: Losses) -> Json:
    blocks = [*_contents(message.content, losses)]
    block: Json = {"type": "tool_result", "tool_use_id": ids.of_result(message)}
    if blocks:  # a mark on the last of it is one on all of it
        block |= {key: blocks[-1].pop(key) for key in ("cache_control",) if key in blocks[-1]}
        block["content"] = _shortest(blocks)
    return block | ({"is_error": True} if message.failed else {})


def _contents(content: Content, losses: Losses, sees: bool = True) -> Iterator[Json]:
    """Yield parts as blocks; there are no empty texts, and the assistant's turns are texts."""
    for part in content:
        if isinstance(part, Text):
            if part.text:
                yield _text(part)
        elif block := _media(part, losses) if sees else None:
            yield block | _cache_control(part.kept)
        elif not sees:
            losses.note(part.field, "answers other than texts")


def _text(part: Text) -> Json:
    return {"type": "text", "text": part.text} | _cache_control(part.kept)


def _media(part: Part, losses: Losses) -> Json | None:
    if isinstance(part, Image):
        return {"type": "image", "source": _source(part)}
    if not isinstance(part, Document):
        losses.note(part.field if isinstance(part, Media) else "messages", "audio input")
        return None
    about = {"title": part.title} if part.title else {}
    if not part.data or part.media_type == "application/pdf":
        return {"type": "document", "source": _source(part), **about}
    if PLAIN.match(part.media_type):
        text = part.data.decode(errors="replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
        return {"type": "document", "source": source, **about}
    losses.note(part.field, f"files of type {part.media_type}")
    return None


def _source(part: Media) -> Json:
    if part.file_id is not None:
        return {"type": "file", "file_id": part.file_id}
    if part.url is not None:
        return {"type": "url", "url": part.url}
    return {"type": "base64", "media_type": part.media_type, "data": base64_of(part)}


def _cache_control(kept: Kept) -> Json:
    if not kept:
        return {}
    return {"cache_control": {"type": "ephemeral", **({"ttl": kept} if kept != "5m" else {})}}


# Tools.


def _tools(chat: Chat) -> Json:
    """Return the tools that may be called, and the rule for that where there is one."""
    choice = chat.tool_choice
    names = frozenset(choice.names)
    one = choice.mode == "required" and len(names) == 1
    # Of several that may be called, it can only be told of these.
    told = [tool for tool in chat.tools if one or not names or tool.name in names]
    if not told:
        return {}
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    rule: Json = {"type": kinds[choice.mode]}
    if one:
        rule = {"type": "tool", "name": choice.names[0]}
    if not choice.parallel and choice.mode != "none":
        rule["disable_parallel_tool_use"] = True
    return {"tools": [*map(_tool, told)], "tool_choice": None if rule == {"type": "auto"} else rule}


def _tool(tool: Tool) -> Json:
    """Return a tool; that a text keeps to a grammar is only told, in what describes it."""
    schema = {"type": "object", **(tool.parameters or {"properties": {}})}
    about = {"description": tool.description} if tool.description else {}
    strict = {"strict": True} if tool.strict and tool.grammar is None else {}
    named = {"name": tool.name, **about, "input_schema": schema, **strict}
    return named | _cache_control(tool.kept)


# Thoughts.


def _reasoning(chat: Chat, limit: int, losses: Losses) -> Json:
    """Return what is asked of thoughts: by effort, or by a budget of the answer's tokens."""
    asked = chat.reasoning
    if is_off(asked):
        return {"thinking": {"type": "disabled"}}
    adaptive = ADAPTIVE.search(chat.model) is not None
    effort = asked.effort or (effort_of(asked.budget, limit) if asked.budget and adaptive else None)
    told = {"output_config": {"effort": EFFORTS.get(effort, effort)}} if effort else {}
    if asked.enabled is None and asked.budget is None:
        return told  # effort alone is no wish for thoughts
    display = {"display": "omitted"} if asked.shown in ("hidden", "sealed") else {}
    if adaptive:
        return {"thinking": {"type": "adaptive", "display": "summarized", **display}, **told}
    if limit <= MIN_BUDGET:
        losses.note("max_tokens", f"thoughts in an answer of {MIN_BUDGET} tokens or fewer")
        return {"thinking": {"type": "disabled"}}
    budget = _budget(asked, limit, losses)
    return {"thinking": {"type": "enabled", "budget_tokens": budget, **display}}


def _budget(asked: Reasoning, limit: int, losses: Losses) -> int:
    budget = most_tokens(asked, limit)
    if budget is None:
        budget = limit if asked.effort else int(UNLIMITED * limit)
    if asked.budget is not None and budget < MIN_BUDGET:
        losses.note("thinking.budget_tokens", f"thoughts of fewer than {MIN_BUDGET} tokens")
    return min(max(budget, MIN_BUDGET), limit - 1)


def _authorization(key: str) -> tuple[bytes, bytes]:
    return b"x-api-key", key.encode()


UPSTREAM = Upstream(
    format="anthropic",
    path="/v1/messages",
    framing="sse",
    headers={b"anthropic-version": b"2023-06-01"},
    authorization=_authorization,
    encode_request=encode_request,
    decode_response=decode_response,
    stream=AnswerDecoder,
    decode_error=decode_error,
)
