"""What is read of a text with calls, however it is cut."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from bessemer.translate.chat import ArgumentsDelta, Delta, TextDelta, Tool, ToolCallBegun
from bessemer.translate.parsers.tool_formats import FORMATS, ToolFormat
from bessemer.translate.parsers.tools import CallReader

BY_NAME = {format.name: format for format in FORMATS}
TOOLS = (
    Tool(
        "get_weather",
        "Say what the weather is.",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"type": ["string", "null"]},
                "tags": {"type": "array"},
                "deep": {"type": "boolean"},
            },
        },
    ),
    Tool("clock"),
)
Read = tuple[str | tuple[str, str], ...]  # texts, and names with arguments, in their order


def deltas(format: ToolFormat, pieces: Iterable[str], **about: Any) -> tuple[list[Delta], int]:
    """Return what a reader says of the pieces, and how many calls are whole."""
    reader = CallReader(0, format, TOOLS, **about)
    out = [delta for piece in pieces for delta in reader.feed(piece)]
    return [*out, *reader.close()], reader.calls


def joined(out: Sequence[Delta]) -> Read:
    """Join the pieces of texts and of arguments; each belongs to the newest call."""
    read: list[Any] = []
    calls = 0
    for delta in out:
        match delta:
            case TextDelta(_, text):
                assert text, "an empty text is none"
                joins = read and isinstance(read[-1], str)
                if joins:
                    read[-1] = str(read[-1]) + text
                else:
                    read.append(text)
            case ToolCallBegun(_, index, _, name):
                assert index == calls, "calls are numbered in their order"
                calls += 1
                read.append((name, ""))
            case ArgumentsDelta(_, index, text):
                assert index == calls - 1 and text
                name, before = read[-1]
                read[-1] = (name, before + text)
    return tuple(read)


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def read(name: str, text: str, size: int = 10**6) -> Read:
    return joined(deltas(BY_NAME[name], cut(text, size))[0])


def meant(read: Read) -> list[Any]:
    """Return texts, and names with what arguments mean."""
    return [each if isinstance(each, str) else (each[0], json.loads(each[1])) for each in read]
