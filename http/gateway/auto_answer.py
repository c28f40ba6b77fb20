"""The choice of a model that can answer: it is asked for a route's name, as Higgs asks (H4.6)."""

import json
import re
from collections.abc import Sequence
from contextlib import aclosing, suppress

from ...translate.chat import (
    Chat,
    Failure,
    GenerateRequest,
    GenerationOptions,
    Message,
    Reasoning,
    ResponseFormat,
    TextDelta,
)
from ...translate.parts import said
from .auto_reader import Reader, shortened, without_blocks
from .schema import RouteTable

OTHER = "other"
ASKED = GenerationOptions(max_tokens=64, temperature=0.0, top_p=1.0)
LONGEST_TURN, LONGEST = 2000, 8000  # characters that are read: of a turn, of the latest together
ASK = """<routes>
{routes}
</routes>

<conversation>
{conversation}
</conversation>

Which route fits the conversation best? Answer with JSON alone: {{"route": NAME}}, or \
{{"route": "other"}} if none of them fits."""
NAMED = re.compile(r"""["']?route["']?\s*[:=]\s*["']?([\w.-]+)""")


async def answered(
    reader: Reader, routes: Sequence[RouteTable], request: GenerateRequest, caller: str
) -> tuple[str, str]:
    """Return the name that a model answers, which may be none, and its answer. Raises Refusal."""
    names = [route.name or "" for route in routes]
    chat = Chat(
        "",
        (Message("user", said(asking(routes, request))),),
        ASKED,
        reasoning=Reasoning(enabled=False),
        response_format=_one_of((*names, OTHER)),
        client=caller,
    )
    text = ""
    async with aclosing(reader.events(chat)) as events:
        async for event in events:
            if isinstance(event, Failure):
                raise event.refusal
            if isinstance(event, TextDelta):
                text += event.text
    name = named(text)
    return (name if name in names else ""), f"it answered {shortened(text.strip(), 200)!r}"


def asking(routes: Sequence[RouteTable], request: GenerateRequest) -> str:
    described = [{"name": route.name, "description": route.description} for route in routes]
    return ASK.format(
        routes=json.dumps(described, ensure_ascii=False),
        conversation=json.dumps(_turns(request), ensure_ascii=False),
    )


def named(answer: str) -> str:
    """Return the route that an answer names: as JSON, as nearly JSON, or somewhere in its text."""
    with suppress(ValueError, RecursionError):
        value = json.loads(answer)
        return str(value.get("route", "")) if isinstance(value, dict) else ""
    found = NAMED.search(answer)
    return found[1] if found else ""


def _turns(request: GenerateRequest) -> list[dict[str, str]]:
    """Return the latest turns, but for the system's, as far as they are short enough."""
    if isinstance(request, Chat):
        turns = [(each.role, each.text) for each in request.messages if each.role != "system"]
    else:
        turns = [("user", each) for each in request.prompts if isinstance(each, str)]
    kept: list[dict[str, str]] = []
    left = LONGEST
    for role, text in reversed(turns):
        text = shortened(without_blocks(shortened(text)), LONGEST_TURN)
        left -= len(text)
        if left < 0:
            break
        if text:
            kept.append({"role": role, "content": text})
    return kept[::-1]


def _one_of(names: Sequence[str]) -> ResponseFormat:
    schema = {
        "type": "object",
        "properties": {"route": {"enum": list(names)}},
        "required": ["route"],
        "additionalProperties": False,
    }
    return ResponseFormat("json_schema", json.dumps(schema), field="auto_router")
