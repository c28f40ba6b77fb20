"""Turns about tools as templates want them, or as text where they know nothing of tools."""

import hashlib
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from msgspec import json

from .chat import Message, Tool, ToolCall
from .parsers.tool_shape import Shape
from .parts import Text, said

Turns = tuple[Message, ...]

SHORT = string.digits + string.ascii_lowercase
EXAMPLE = ToolCall("", "function_name", '{"parameter": "value"}')
PROMPT = """\
You can call functions. These are there, each with a JSON schema of its parameters:
<tools>
{tools}
</tools>

To call one, write its name and its arguments, a JSON object, in this form, as often as needed:
{example}
Then end your turn: the next one says what they return."""


def told(turns: Turns, tools: Sequence[Tool], shape: Shape) -> Turns:
    """Tell of the tools in the system turn: in the one there is, or in a new one."""
    lines = "\n".join(json.encode(function(tool)).decode() for tool in tools)
    prompt = PROMPT.format(tools=lines, example=shape.call(EXAMPLE))
    if not turns or turns[0].role != "system":
        return (Message("system", said(prompt)), *turns)
    text = f"{turns[0].text}\n\n{prompt}" if turns[0].text else prompt
    return (replace(turns[0], content=said(text)), *turns[1:])


def function(tool: Tool, whole: bool = False) -> dict[str, object]:
    """Return a tool as OpenAI's requests have it; a `whole` one has what may be left out."""
    parameters = {"type": "object", "properties": {}} if whole else None
    fields = {
        "name": tool.name,
        "description": tool.description if tool.description or not whole else "",
        "parameters": parameters if tool.parameters is None else tool.parameters,
    }
    return {key: value for key, value in fields.items() if value is not None}


def written_calls(turns: Turns, shape: Shape, beside: bool = False) -> Turns:
    """Say what was called, as text in the shape of calls; or only what was, `beside` a text."""
    return tuple(
        _said_call(turn, shape) if turn.calls and (turn.text or not beside) else turn
        for turn in turns
    )


def thought_calls(turns: Turns) -> Turns:
    """Let what is said beside a thought and a call be the end of the thought."""
    return tuple(
        replace(turn, content=(), reasoning=f"{turn.reasoning}\n\n{turn.text}")
        if turn.calls and turn.reasoning and turn.text
        else turn
        for turn in turns
    )


def silent_calls(turns: Turns) -> Turns:
    """Leave out what is said beside calls, for a template that has no place for it."""
    return tuple(replace(turn, content=()) if turn.calls else turn for turn in turns)


def written_results(turns: Turns) -> Turns:
    """Let the user say what tools returned, all in a row in one turn."""
    out: list[Message] = []
    for are_results, group in groupby(turns, lambda turn: turn.role == "tool"):
        if are_results:
            texts = (f"<tool_response>\n{turn.text}\n</tool_response>" for turn in group)
            out.append(Message("user", said("\n".join(texts))))
        else:
            out += group
    return tuple(out)


def failures(turns: Turns) -> Turns:
    """Say of a result that it is an error, if it does not say so itself."""
    return tuple(_failure(turn) if turn.failed else turn for turn in turns)


def named_results(turns: Turns) -> Turns:
    """Give results the names of the calls that they belong to."""
    names = {call.id: call.name for turn in turns for call in turn.calls if call.id}
    return tuple(
        replace(turn, name=turn.name or names.get(turn.result_of or "")) if turn.result_of else turn
        for turn in turns
    )


def with_short_ids(turns: Turns) -> Turns:
    """Give calls ids of nine letters and digits, the same for the same id."""
    return tuple(
        replace(
            turn,
            calls=tuple(replace(call, id=short_id(call.id)) for call in turn.calls),
            result_of=None if turn.result_of is None else short_id(turn.result_of),
        )
        for turn in turns
    )


def short_id(id: str) -> str:
    """Return an id of nine letters and digits, which one of that form is already."""
    if len(id) == 9 and id.isascii() and id.isalnum():
        return id
    number = int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")
    return "".join(SHORT[number // len(SHORT) ** at % len(SHORT)] for at in range(9))


def apart(turns: Turns) -> Turns:
    """Make a turn of each call, with its result after it."""
    return tuple(_apart(turns))


def _apart(turns: Turns) -> Iterator[Message]:
    at = 0
    while at < len(turns):
        turn, at = turns[at], at + 1
        if len(turn.calls) < 2:
            yield turn
            continue
        results: dict[str, Message] = {}
        while at < len(turns) and turns[at].role == "tool":
            results[turns[at].result_of or str(at)] = turns[at]
            at += 1
        yield from _pairs(turn, results)


def _pairs(turn: Message, results: Mapping[str, Message]) -> Iterator[Message]:
    left = dict(results)
    for number, call in enumerate(turn.calls):
        yield replace(turn, calls=(call,)) if number == 0 else Message("assistant", calls=(call,))
        if call.id in left:
            yield left.pop(call.id)
    yield from left.values()


def _said_call(turn: Message, shape: Shape) -> Message:
    calls = "\n".join(shape.call(call) for call in turn.calls)
    text = f"{turn.text}\n{calls}" if turn.text else calls
    return replace(turn, content=said(text), calls=())


def _failure(turn: Message) -> Message:
    if turn.text.lower().startswith("error"):
        return turn
    first, *rest = turn.content or (Text(""),)
    before = first.text if isinstance(first, Text) else ""
    return replace(turn, content=(Text(f"Error: {before}".rstrip()), *rest))
