"""Values as models write them, read into JSON text while they come."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import json

from .scanner import Broken, Out, Reading, Scanner

Member = Callable[[], Reading[None]]
MAX_DEPTH = 64
WORD = re.compile(r"[\w.+-]+")
KEY = re.compile(r"[\w$-]+")
NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
SURROGATE = re.compile(r"[\ud800-\udfff]")
HEX = {"u": 4, "x": 2, "U": 8}
JSON_ESCAPES = frozenset('"\\/bfnrt')
PYTHON_ESCAPES = {
    **dict(zip("abfnrtv0", "\a\b\f\n\r\t\v\0", strict=True)),
    **{character: character for character in "\\'\""},
    "\n": "",
}


@dataclass(frozen=True, slots=True)
class Style:
    """The way in which values are written: the marks of texts, the words that are constants.

    `escapes`: the characters that may follow a backslash, and what they stand for; none where a
    backslash is one. `bare`: keys stand without marks.
    """

    quotes: tuple[str, ...]
    words: Mapping[str, str]
    escapes: Mapping[str, str] | None = None
    bare: bool = False
    json: bool = False  # texts are JSON's, and go out as they are


_WORDS = {word: word for word in ("true", "false", "null")}
_PYTHON_WORDS = {**_WORDS, "True": "true", "False": "false", "None": "null"}
JSON = Style(('"',), _WORDS, json=True)
PYTHON = Style(('"""', "'''", '"', "'"), _PYTHON_WORDS, PYTHON_ESCAPES)


def marked(mark: str) -> Style:
    """Return the style of Gemma's calls: bare keys, and texts between two of a mark."""
    return Style((mark,), _WORDS, bare=True)


def spelled(value: Any, mark: str) -> str:
    """Return a value of JSON as Gemma's calls have it: bare keys, and texts between two marks."""
    if isinstance(value, str):
        return f"{mark}{value}{mark}"
    if isinstance(value, dict):
        pairs = (f"{key}:{spelled(each, mark)}" for key, each in value.items())
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(spelled(each, mark) for each in value)}]"
    return json.encode(value).decode()


def escaped(text: str) -> str:
    """Return a text as it stands between the marks of a JSON string, without codes of tokens."""
    try:
        return json.encode(text).decode()[1:-1]
    except UnicodeEncodeError:
        return escaped(SURROGATE.sub("", text))


def read_value(scanner: Scanner, style: Style, out: Out, depth: int = 0) -> Reading[None]:
    """Read one value, and give it out as JSON. Raises Broken where it is none."""
    first = yield from scanner.peek()
    if first == "{":
        yield from _object(scanner, style, out, depth)
    elif first == "[" or (first == "(" and style is PYTHON):
        yield from _list(scanner, style, out, depth)
    elif any(quote.startswith(first) for quote in style.quotes):
        yield from read_text(scanner, style, out)
    else:
        word = (yield from scanner.match(WORD))[0]
        if word not in style.words and NUMBER.fullmatch(word) is None:
            raise Broken
        out(style.words.get(word, word))


def read_object(scanner: Scanner, style: Style, out: Out) -> Reading[None]:
    """Read a value that must be an object."""
    if (yield from scanner.peek()) != "{":
        raise Broken
    yield from read_value(scanner, style, out)


def read_text(scanner: Scanner, style: Style, out: Out) -> Reading[None]:
    """Read a text in one of the style's marks, and give it out as a JSON string."""
    quote = yield from scanner.expect(*style.quotes)
    out('"')
    yield from (_json_text(scanner, out) if style.json else _text(scanner, style, quote, out))
    out('"')


def _json_text(scanner: Scanner, out: Out) -> Reading[None]:
    """Read a JSON string after its first mark; control characters in it are escaped."""
    while True:
        match = PLAIN.match(scanner.text, scanner.at)
        assert match is not None
        if match[0]:
            out(match[0])
            scanner.at = match.end()
        character = yield from scanner.peek()
        if character == '"':
            scanner.at += 1
            return
        if character == "\\":
            yield from _json_escape(scanner, out)
        elif character < " ":
            scanner.at += 1
            out(escaped(character))


def _json_escape(scanner: Scanner, out: Out) -> Reading[None]:
    """Read one escape; half a surrogate pair is no character."""
    code = yield from _escape(scanner)
    if code in JSON_ESCAPES:
        out("\\" + code)
        return
    if not code.startswith("u"):
        raise Broken
    if "d800" <= code[1:].lower() <= "dbff":
        low = yield from _escape(scanner)
        if not "udc00" <= low.lower() <= "udfff":
            raise Broken
        code += "\\" + low
    elif "dc00" <= code[1:].lower() <= "dfff":
        raise Broken
    out("\\" + code)


def _escape(scanner: Scanner) -> Reading[str]:
    """Return what follows a backslash: a character, and the digits that belong to it."""
    yield from scanner.expect("\\")
    letter = yield from scanner.peek()
    length = 1 + HEX.get(letter, 0)
    while len(scanner.text) - scanner.at < length:
        yield from scanner.more()
    code = scanner.text[scanner.at : scanner.at + length]
    if length > 1 and not re.fullmatch(r"[0-9a-fA-F]+", code[1:]):
        raise Broken
    scanner.at += length
    return code


def _text(scanner: Scanner, style: Style, quote: str, out: Out) -> Reading[None]:
    """Read a text up to its mark, with the escapes that the style has."""
    marks = (quote,) if style.escapes is None else (quote, "\\")
    while True:
        found = yield from scanner.until(marks, lambda piece: out(escaped(piece)))
        if found == quote:
            return
        scanner.at -= 1
        code = yield from _escape(scanner)
        if len(code) > 1:
            number = int(code[1:], 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise Broken
            out(escaped(chr(number)))
        else:
            assert style.escapes is not None
            out(escaped(style.escapes.get(code, "\\" + code)))


def _object(scanner: Scanner, style: Style, out: Out, depth: int) -> Reading[None]:
    def member() -> Reading[None]:
        if style.bare:
            out('"' + escaped((yield from scanner.match(KEY))[0]) + '"')
        else:
            yield from read_text(scanner, style, out)
        yield from scanner.skip_space(out)
        out((yield from scanner.expect(":")))
        yield from scanner.skip_space(out)
        yield from read_value(scanner, style, out, depth + 1)

    yield from members(scanner, "{}", member, out, depth, style.json)


def _list(scanner: Scanner, style: Style, out: Out, depth: int) -> Reading[None]:
    def member() -> Reading[None]:
        yield from read_value(scanner, style, out, depth + 1)

    opening = yield from scanner.peek()
    marks = "()" if opening == "(" else "[]"
    yield from members(scanner, marks, member, out, depth, style.json, "[]")


def members(
    scanner: Scanner,
    marks: str,
    member: Member,
    out: Out,
    depth: int = 0,
    strict: bool = True,
    shown: str = "",
) -> Reading[None]:
    """Read what stands between two marks, with commas between; the last may be one, unless strict.

    The marks go out as those that are `shown`.
    """
    if depth >= MAX_DEPTH:
        raise Broken
    opening, closing = marks[0], marks[1]
    yield from scanner.expect(opening)
    out((shown or marks)[0])
    comma = ""
    while True:
        spaces: list[str] = []
        yield from scanner.skip_space(spaces.append)
        if (not comma or not strict) and (yield from scanner.take(closing)):
            break
        out("".join((comma, *spaces)))
        yield from member()
        yield from scanner.skip_space(out)
        comma = yield from scanner.expect(",", closing)
        if comma == closing:
            break
    out((shown or marks)[1])
