"""Free text out of JSON in pieces of any size, judged by Python's own decoder."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.translate.custom_input import InputReader

TEXTS = [
    "",
    "plain",
    'a "quoted" \\ back\\\\slash / slash',
    "lines\nand\ttabs\r\n\b\f",
    "Zürich 雪 😀 \x00\x1f",
    "*** Begin Patch\n*** Update File: a.py\n@@\n-x = \"1\"\n+x = '\\n'\n*** End Patch\n",
]


def read(arguments: str, size: int) -> str:
    reader = InputReader()
    told = [reader.feed(arguments[at : at + size]) for at in range(0, len(arguments), size)]
    assert reader.written == arguments
    return "".join(told) + reader.rest()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_a_text_at_every_split(text: str, size: int) -> None:
    for is_ascii in (True, False):
        for separators in ((",", ":"), (", ", " : ")):
            written = json.dumps({"input": text}, ensure_ascii=is_ascii, separators=separators)
            assert read(written, size) == text
            assert read(f" \n{written} ", size) == text
    assert read(json.dumps({"input": text, "more": "x"}), size) == text
    assert read(json.dumps({'an "odd" name': text}), size) == text


@given(st.text(), st.integers(1, 9), st.booleans())
def test_any_text(text: str, size: int, is_ascii: bool) -> None:
    assert read(json.dumps({"input": text}, ensure_ascii=is_ascii), size) == text


@pytest.mark.parametrize("arguments", ["{}", '{"input": 5}', '{"input": ["a"]}', "[1]", "", '{"in'])
def test_without_a_text_all_that_was_written_is_the_input(arguments: str) -> None:
    assert read(arguments, 1) == arguments


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"a\ud83db", "a\ufffdb"),
        (r"a\udc00b", "a\ufffdb"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\ud83d\n", "\ufffd\n"),
        (r"\ud83d", "\ufffd"),
    ],
)
def test_half_a_character_is_none(escaped: str, text: str) -> None:
    for size in (1, 4, 100):
        assert read(f'{{"input":"{escaped}"}}', size) == text


def test_control_characters_as_models_write_them() -> None:
    assert read('{"input":"a\nb\tc"}', 3) == "a\nb\tc"
