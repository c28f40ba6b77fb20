"""Values as models write them, to JSON."""

import ast
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.translate.parsers.scanner import Broken, Scanner
from bessemer.translate.parsers.values import JSON, PYTHON, Style, escaped, marked, read_value

GEMMA = marked("<escape>")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)  # fmt: skip


def read(style: Style, text: str, size: int = 10**6) -> tuple[str, str]:
    """Return the JSON of the value that a text begins with, and the rest of it."""
    scanner, out = Scanner(), list[str]()
    reading = read_value(scanner, style, out.append)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    left = text
    try:
        next(reading)
        for at, piece in enumerate(pieces):
            scanner.feed(piece)
            left = "".join(pieces[at + 1 :])
            next(reading)
        scanner.ended, left = True, ""
        next(reading)
    except StopIteration:
        return "".join(out), scanner.text[scanner.at :] + left
    raise AssertionError("it waits at the end")


@settings(max_examples=60)
@given(VALUES, st.integers(1, 9), st.sampled_from((None, 1)))
def test_json_stays_as_it_is(value: Any, size: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert read(JSON, text + ";", size) == (text, ";")


@settings(max_examples=60)
@given(VALUES, st.integers(1, 9))
def test_python_becomes_json(value: Any, size: int) -> None:
    shown, rest = read(PYTHON, repr(value) + ")", size)
    assert rest == ")"
    assert json.loads(shown) == ast.literal_eval(repr(value))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'''a\n'b' \"c'''", '"a\\n\'b\' \\"c"'),
        ("(1, 'a',)", '[1, "a"]'),
        ("[]", "[]"),
        ("{'a': [True, None, -1.5e3]}", '{"a": [true, null, -1.5e3]}'),
        (r"'\x41\u00e9\U0001f600\d\''", '"Aé😀\\\\d\'"'),
        ("[true, null]", "[true, null]"),
    ],
)
def test_python(text: str, shown: str) -> None:
    for size in (1, 2, 99):
        assert read(PYTHON, text + ")", size) == (shown, ")")


def test_texts_between_marks_and_bare_keys() -> None:
    text = '{city:<escape>Z"\\\n{<b><escape>,a-1:{n:[1,true]}}.'
    for size in (1, 2, 99):
        shown, rest = read(GEMMA, text, size)
        assert (json.loads(shown), rest) == ({"city": 'Z"\\\n{<b>', "a-1": {"n": [1, True]}}, ".")


@pytest.mark.parametrize(
    ("style", "text"),
    [
        *((JSON, text) for text in ("tru ", "01 ", "1. ", "-", "'a'", "{1:2}", '{"a" 1}', "[1,]")),
        *((JSON, text) for text in ('{"a":1,}', '"\\x41"', '"\\u12"', '"\\udc00"', '"\\ud800a"')),
        *((JSON, text) for text in ('"\\ud800\\u0041"', '"a', "[1", "(1)", "[" * 65, "True ")),
        *((PYTHON, text) for text in ("nan ", "f(1)", "'\\ud800'", "{a: 1}", "b'a'", "1_0 ")),
        *((GEMMA, text) for text in ('"a"', "{<escape>a<escape>:1}", "<esc")),
    ],
)
def test_what_is_no_value_breaks(style: Style, text: str) -> None:
    for size in (1, 99):
        with pytest.raises(Broken):
            read(style, text, size)


def test_codes_of_special_tokens_are_no_text() -> None:
    assert escaped('a\ud800"\n') == 'a\\"\\n'
