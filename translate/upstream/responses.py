"""OpenAI's Responses API as an upstream: conversations to its requests.

The server is to keep nothing, so that thoughts come sealed, and go back with what is said next.
What is left out in silence: thoughts that its servers did not seal, and marks of what to cache, for
they find that themselves.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from ..chat import Chat, Message, Reasoning, Tool, ToolCall
from ..media import data_url
from ..origin import known
from ..parts import Audio, Content, Document, Image, Media, Part, SignedThought, Text
from ..reasoning import effort_asked, is_off
from ..tool_turns import failures
from .call_ids import CallIds
from .losses import USUAL, Losses, check
from .refusals import decode_error
from .responses_answer import AnswerDecoder, decode_response
from .upstream import Upstream, bearer

Json = dict[str, Any]

NAME = "OpenAI's Responses API"
OVERFLOWS = {"truncate": "auto", "error": "disabled"}
SAID = USUAL | {"logprobs"}


def encode_request(chat: Chat, lossy: bool) -> bytes:
    """Return the body that asks for an answer. Raises Refusal for what it cannot say."""
    losses, options = Losses(NAME, lossy), chat.options
    check(chat, SAID, losses)
    if options.overflow == "summarize":
        losses.note("context_overflow", "summaries of what a prompt has no room for")
    if chat.continue_final:
        losses.note("messages", "an answer that goes on from where the last turn ends")
    instructions, turns = _instructions(chat.messages)
    thinks = _reasoning(chat.reasoning, options.max_tokens)
    sealed = any(known(message.signed, "responses") for message in turns)
    sealed = sealed or (thinks is not None and thinks.get("effort") != "none")
    include = ["reasoning.encrypted_content"] if sealed else []
    include += ["message.output_text.logprobs"] if options.logprobs is not None else []
    body: Json = {
        "model": chat.model,
        "instructions": instructions,
        "input": [*_input(turns, losses)],
        "max_output_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_logprobs": options.logprobs or None,
        "truncation": OVERFLOWS.get(options.overflow or ""),
        "reasoning": thinks,
        "text": _format(chat, losses),
        "include": include or None,
        "store": False,
        "stream": options.stream or None,
        **_tools(chat),
    }
    return msgspec.json.encode({key: value for key, value in body.items() if value is not None})


def _format(chat: Chat, losses: Losses) -> Json | None:
    format = chat.response_format
    if format is None:
        return None
    if format.kind == "json_object":
        return {"format": {"type": "json_object"}}
    if format.kind != "json_schema":
        losses.note(format.field, "answers of a form but by a JSON schema")
        return None
    schema = msgspec.Raw(format.definition.encode())
    about = {"type": "json_schema", "name": "answer", "schema": schema, "strict": format.strict}
    return {"format": about}


# Turns.


def _instructions(messages: tuple[Message, ...]) -> tuple[str | None, tuple[Message, ...]]:
    """Return what the system says first, and the turns behind it."""
    first = messages[0] if messages else Message("user")
    texts = all(isinstance(part, Text) for part in first.content)
    if first.role != "system" or not texts:
        return None, messages
    return first.text or None, messages[1:]


def _input(turns: tuple[Message, ...], losses: Losses) -> Iterator[Json]:
    """Yield the items; that a call failed is said in the text of its result."""
    ids = CallIds()
    for message in failures(turns):
        if message.role == "tool":
            output = _shortest([*_contents(message.content, losses)])
            about = {"type": "function_call_output", "call_id": ids.of_result(message)}
            yield about | {"output": output}
        elif message.role == "assistant":
            yield from map(_thought, known(message.signed, "responses"))
            yield from _spoken(message.content, losses)
            yield from (_call(call, ids.of_call(call)) for call in message.calls)
        else:
            content = _shortest([*_contents(message.content, losses)])
            yield {"type": "message", "role": message.role, "content": content}


def _thought(thought: SignedThought) -> Json:
    summary = [{"type": "summary_text", "text": thought.text}] if thought.text else []
    return {"type": "reasoning", "summary": summary, "encrypted_content": thought.signature}


def _call(call: ToolCall, id: str) -> Json:
    about = {"type": "function_call", "call_id": id, "name": call.name}
    return about | {"arguments": call.arguments or "{}"}


def _shortest(parts: list[Json]) -> str | list[Json]:
    if not parts:
        return ""
    plain = len(parts) == 1 and parts[0]["type"] == "input_text"
    return parts[0]["text"] if plain else parts


def _spoken(content: Content, losses: Losses) -> Iterator[Json]:
    for part in content:
        if not isinstance(part, Text):
            losses.note(part.field, "answers other than texts")
        elif part.text:
            yield {"type": "message", "role": "assistant", "content": part.text}


def _contents(content: Content, losses: Losses) -> Iterator[Json]:
    for part in content:
        if isinstance(part, Audio):
            losses.note(part.field, "audio input")
        elif part != Text(""):
            yield _part(part)


def _part(part: Part) -> Json:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "input_image", "detail": part.detail or "auto", **_image_source(part)}
    assert isinstance(part, Document), "all other parts are known"
    return {"type": "input_file", **_file_source(part)}


def _image_source(part: Media) -> Json:
    if part.file_id is not None:
        return {"file_id": part.file_id}
    return {"image_url": part.url if part.url is not None else data_url(part)}


def _file_source(part: Document) -> Json:
    if part.file_id is not None:
        return {"file_id": part.file_id}
    if part.url is not None:
        return {"file_url": part.url}
    name = part.title or f"document.{part.media_type.rpartition('/')[2] or 'pdf'}"
    return {"filename": name, "file_data": data_url(part)}


# Tools.


def _tools(chat: Chat) -> Json:
    """Return the tools, and the rule for calling them where there is one.

    Those that no turn told of yet stay untold.
    """
    choice, names = chat.tool_choice, frozenset(chat.tool_choice.names)
    told = [tool for tool in chat.tools if not (tool.deferred and names) or tool.name in names]
    if not told:
        return {}
    parallel = None if choice.parallel else False
    rule: Json | str | None = choice.mode if choice.mode != "auto" else None
    if names and names != {tool.name for tool in told} and choice.mode != "none":
        named = [{"type": "function", "name": name} for name in choice.names]
        one = choice.mode == "required" and len(named) == 1
        rule = named[0] if one else {"type": "allowed_tools", "mode": choice.mode, "tools": named}
    return {"tools": [*map(_tool, told)], "tool_choice": rule, "parallel_tool_calls": parallel}


def _tool(tool: Tool) -> Json:
    """Return a tool; that a text keeps to a grammar is only told, in what describes it."""
    about = {"description": tool.description} if tool.description else {}
    parameters = tool.parameters or {"type": "object", "properties": {}}
    named = {"type": "function", "name": tool.name, **about, "parameters": parameters}
    return named | {"strict": tool.strict}


# Thoughts.


def _reasoning(asked: Reasoning, limit: int | None) -> Json | None:
    """Return what is asked of thoughts, of which a summary is all that can be read."""
    effort = "none" if is_off(asked) else effort_asked(asked, limit)
    if effort is None and asked.enabled is None:
        return None
    shown = effort != "none" and asked.enabled is not None and asked.shown in ("apart", "inline")
    about: Json = {"effort": effort} if effort else {}
    return about | ({"summary": "auto"} if shown else {}) or None


UPSTREAM = Upstream(
    format="responses",
    path="/v1/responses",
    framing="sse",
    headers={},
    authorization=bearer,
    encode_request=encode_request,
    decode_response=decode_response,
    stream=AnswerDecoder,
    decode_error=decode_error,
)
