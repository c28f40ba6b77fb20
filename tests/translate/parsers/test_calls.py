"""Syntaxes of a call, each alone: when its name is told, and what is none."""

import json
from typing import Any

import pytest

from bessemer.translate.parsers.calls import (
    KeyedCall,
    NamedCall,
    ObjectCall,
    PythonCall,
    Syntax,
    TaggedCall,
)
from bessemer.translate.parsers.parameter_types import ALL
from bessemer.translate.parsers.scanner import Broken, Scanner

TAGS = TaggedCall(
    open="<f=",
    name_ends=(">",),
    key="<p=",
    key_ends=(">",),
    value_end="</p>",
    close="</f>",
    lines=True,
)
PAIRS = TaggedCall(
    open="",
    name_ends=("\n", "<k>", "</c>"),
    key="<k>",
    key_ends=("</k>",),
    value="<v>",
    value_end="</v>",
    close="</c>",
)


class Heard:
    """What a syntax tells; no tool is called `none`."""

    def __init__(self) -> None:
        self.name, self.id, self.arguments = "", "", ""
        self.ended = False

    def begin(self, name: str, id: str = "") -> None:
        if name in ("", "none"):
            raise Broken
        assert not self.name
        self.name, self.id = name, id

    def add(self, piece: str) -> None:
        assert self.name and not self.ended
        self.arguments += piece

    def end(self) -> None:
        self.ended = True

    def types(self, parameter: str) -> frozenset[str]:
        return frozenset({"string"}) if parameter == "s" else ALL


def hear(syntax: Syntax, text: str, size: int = 1) -> Heard:
    scanner, heard = Scanner(), Heard()
    reading = syntax.read(scanner, heard)
    try:
        next(reading)
        for at in range(0, len(text), size):
            scanner.feed(text[at : at + size])
            next(reading)
        scanner.ended = True
        next(reading)
    except StopIteration:
        return heard
    raise AssertionError("it waits at the end")


@pytest.mark.parametrize(
    ("syntax", "text", "arguments"),
    [
        (ObjectCall(), '{"name": "f", "arguments": {"a": [1]}}', {"a": [1]}),
        (ObjectCall(), '{"parameters": {"a": 1}, "x": {"y": []}, "tool_name": "f"}', {"a": 1}),
        (ObjectCall(), '{"type": "function", "function": {"name": "f", "arguments": {}}}', {}),
        (ObjectCall(), '{"function": "f", "arguments": "{\\"a\\": 1}"}', {"a": 1}),
        (ObjectCall(), '{"name": "f", "arguments": null}', {}),
        (ObjectCall(), '{"name": "f", "arguments": ""}', {}),
        (ObjectCall(), '{ "name" : "f" }', {}),
        (KeyedCall(), '{ "f" : {"a": 1} }', {"a": 1}),
        (NamedCall(between=("|",)), "f|{}", {}),
        (NamedCall(between=("|",)), ' f {"a": 1}', {"a": 1}),
        (NamedCall(between=("|",), fenced=True), 'x|f\n```json\n{"a": 1}\n```', {"a": 1}),
        (NamedCall(between=("|",), fenced=True), 'f|{"a": 1}', {"a": 1}),
        (TAGS, "<f=f></f>", {}),
        (TAGS, "<f=f>\n<p=s>\n5\n</p><p=b>5</p></f>", {"s": "5", "b": 5}),
        (TAGS, "<f=f><p=c>\n\nx\n\n</p></f>", {"c": "\nx\n"}),
        (PAIRS, "f</c>", {}),
        (PAIRS, "f<k>s</k><v>\n5\n</v>\n<k>b</k>\n<v>[5]</v></c>", {"s": "\n5\n", "b": [5]}),
        (PythonCall(), "f()", {}),
        (PythonCall(), "f( a = 1 , b='x', )", {"a": 1, "b": "x"}),
    ],
)  # fmt: skip
def test_calls(syntax: Syntax, text: str, arguments: dict[str, Any]) -> None:
    for size in (1, 2, 99):
        heard = hear(syntax, text, size)
        assert (heard.name, json.loads(heard.arguments), heard.ended) == ("f", arguments, True)


def test_an_id_may_come_with_a_name() -> None:
    assert hear(NamedCall(between=("|",), id_mark="#"), "f# a1 |{}").id == "a1"
    assert hear(NamedCall(between=("|",), id_mark="#"), "f|{}").id == ""


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (ObjectCall(), '{"name": "none", "arguments": {}}'),
        (ObjectCall(), '{"name": "f", "name": "f"}'),
        (ObjectCall(), '{"name": "f", "arguments": {}, "parameters": {}}'),
        (ObjectCall(), '{"name": "f", "arguments": "[]"}'),
        (ObjectCall(), '{"name": "f", "arguments": 1}'),
        (ObjectCall(), '{"name": 1}'),
        (ObjectCall(), "[]"),
        (KeyedCall(), '{"f": {}, "g": {}}'),
        (NamedCall(between=("|",)), "f|[]"),
        (NamedCall(between=("|",)), "|{}"),
        (NamedCall(between=("|",)), "x" * 300 + "|{}"),
        (NamedCall(between=("|",), fenced=True), "x|f\n```json\n{}\n"),
        (TAGS, "<f=f><p=s>5</p>"),
        (TAGS, "<f=f>5</f>"),
        (PAIRS, "f\n<k>s</k><v>5</v>"),
        (PAIRS, "f\n<k>s</k>5"),
        (PythonCall(), "f(1)"),
        (PythonCall(), "f(a=1"),
        (PythonCall(), "f"),
    ],
)
def test_what_is_no_call_breaks(syntax: Syntax, text: str) -> None:
    for size in (1, 99):
        with pytest.raises(Broken):
            hear(syntax, text, size)
