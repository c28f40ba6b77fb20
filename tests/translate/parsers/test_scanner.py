"""Readings that wait for text, and marks at the ends of pieces."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from bessemer.translate.parsers.scanner import LONGEST_NAME, Broken, Reading, Scanner


def result(reading: Reading[Any], scanner: Scanner, pieces: Sequence[str], end: bool = True) -> Any:
    """Return a reading's result; None where it still waits."""
    try:
        next(reading)
        for piece in pieces:
            scanner.feed(piece)
            next(reading)
        scanner.ended = end
        next(reading)
    except StopIteration as stop:
        return stop.value
    return None


def test_a_mark_is_taken_when_it_is_certain() -> None:
    for pieces, found in (
        (["<a>"], "<a>"),
        (["<", "a", ">"], "<a>"),
        (["<", "b"], ""),
        (["<a", ""], ""),
        (["x"], ""),
    ):
        scanner = Scanner()
        assert result(scanner.take("<a>", "<a2>"), scanner, pieces) == found
    scanner = Scanner()
    assert result(scanner.take("<a>"), scanner, ["<"], end=False) is None
    scanner = Scanner()
    assert result(scanner.take("'''", "'"), scanner, ["'", "''"]) == "'''"
    assert scanner.at == 3
    scanner = Scanner()
    assert result(scanner.ahead("<a>"), scanner, ["<a>b"]) == "<a>" and scanner.at == 0


def test_text_up_to_a_mark_comes_out_at_once() -> None:
    scanner, out = Scanner(), list[str]()
    reading = scanner.until(("</v>", "\n</v>"), out.append)
    next(reading)
    for piece, shown in (("ab", "ab"), ("c\n", "c"), ("d<", "\nd"), ("/x", "</x"), ("\n</", "")):
        scanner.feed(piece)
        next(reading)
        assert "".join(out) == shown
        out.clear()
    scanner.feed("v>rest")
    with pytest.raises(StopIteration) as stop:
        next(reading)
    assert (stop.value.value, out, scanner.text[scanner.at :]) == ("\n</v>", [""], "rest")


def test_what_was_read_can_be_given_back() -> None:
    scanner = Scanner()
    scanner.feed("ab")
    scanner.at = 1
    scanner.mark()
    scanner.feed("cd")
    scanner.at = 2
    scanner.feed("e")
    scanner.at = 1
    assert scanner.since_mark() == "bcd"
    scanner.mark()
    assert scanner.since_mark() == "" and scanner.text == "e"


def test_names_are_short() -> None:
    for length, ok in ((LONGEST_NAME, True), (LONGEST_NAME + 1, False)):
        for reading in (Scanner.until_short, lambda s, _: s.match(re.compile("x+"))):
            scanner = Scanner()
            pieces = ["x" * length, "(", "."]
            if ok:
                assert result(reading(scanner, "("), scanner, pieces) is not None
            else:
                with pytest.raises(Broken):
                    result(reading(scanner, "("), scanner, pieces)


def test_an_end_breaks_what_waits() -> None:
    for reading in (Scanner.peek, lambda s: s.expect("<a>"), lambda s: s.match(re.compile("x+"))):
        scanner = Scanner()
        with pytest.raises(Broken):
            result(reading(scanner), scanner, ["x"] if "match" in str(reading) else [""])
    scanner = Scanner()
    assert result(scanner.peek_or_end(), scanner, [""]) == ""
    assert result(scanner.skip_space(), scanner, []) is None
