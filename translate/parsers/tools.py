"""Tool calls in an answer's text: told from it while it comes, whatever the format."""

import secrets
import string
from collections.abc import Generator, Mapping, Sequence

from ...engine.text.stops import overlap
from ..chat import ArgumentsDelta, Delta, TextDelta, Tool, ToolCallBegun
from .calls import Syntax
from .parameter_types import ALL, parameter_types
from .parser import AnswerParser, AnswerToken
from .scanner import Broken, Reading, Scanner
from .tool_formats import ToolFormat

HELD = 1000  # characters of white space before what may be a call
SHORT = string.ascii_letters + string.digits


class _Enough(Exception):
    """A call more than may be made."""


class CallReader:
    """A reader of the calls of an answer's text, in pieces of any size, and of the text around.

    White space beside a call belongs to it. What turns out to be no call, or ends before it is
    whole, is text, as it stands; a call that has begun by then stays without an end. A call of a
    tool that is not there is none. `calls` counts those that are whole. Without a `prefix` of ids
    calls have none.
    """

    def __init__(
        self,
        choice: int,
        format: ToolFormat,
        tools: Sequence[Tool],
        prefix: str = "call_",
        parallel: bool = True,
    ) -> None:
        self.calls = 0
        self._choice, self._format = choice, format
        self._types: dict[str, Mapping[str, frozenset[str]] | None] = {t.name: None for t in tools}
        self._tools = {tool.name: tool for tool in tools}
        self._prefix = prefix
        self._most = 1 if not parallel else None
        self._begun = 0
        self._name = ""  # of the call that is read
        self._begins: ToolCallBegun | None = None  # until its arguments do
        self._scanner = Scanner()
        self._deltas: list[Delta] = []
        self._pieces: list[str] = []  # of the arguments, since the last delta
        self._first = frozenset(mark[0] for mark in format.open)
        self._after_call = False
        self._plain = False  # in text, of which nothing is held
        self._reading: Generator[None, None, None] | None = self._read()
        self._go_on()

    def feed(self, piece: str) -> Sequence[Delta]:
        """Return what a piece makes certain."""
        if not piece:
            return ()
        if self._plain and self._first.isdisjoint(piece) and not piece[-1:].isspace():
            return (TextDelta(self._choice, piece),)
        self._scanner.feed(piece)
        return self._go_on()

    def close(self) -> Sequence[Delta]:
        """Return what was held back when the answer ended."""
        self._scanner.ended = True
        return self._go_on()

    # What a format's syntax tells.

    def begin(self, name: str, id: str = "") -> None:
        if name not in self._tools:
            raise Broken
        if self._begun == self._most:
            raise _Enough
        self._flush()
        self._name = name
        own = self._prefix and self._format.call_id(id, name, self._begun)
        self._begins = ToolCallBegun(self._choice, self._begun, own or self._new_id(), name)

    def add(self, piece: str) -> None:
        if self._begins is not None:
            self._deltas.append(self._begins)
            self._begun, self._begins = self._begun + 1, None
        self._pieces.append(piece)

    def end(self) -> None:
        self.calls += 1
        self._after_call = True
        self._scanner.mark()

    def types(self, parameter: str) -> frozenset[str]:
        known = self._types[self._name]
        if known is None:
            known = self._types[self._name] = parameter_types(self._tools[self._name].parameters)
        return known.get(parameter, ALL)

    def _go_on(self) -> Sequence[Delta]:
        if self._reading is not None:
            try:
                self._reading.send(None)
            except (StopIteration, _Enough):
                self._reading = None
        self._flush()
        deltas, self._deltas = self._deltas, []
        return deltas

    def _flush(self) -> None:
        if text := "".join(self._pieces):
            self._deltas.append(ArgumentsDelta(self._choice, self._begun - 1, text))
        self._pieces.clear()

    def _new_id(self) -> str:
        if not self._prefix:
            return ""
        if self._format.short_ids:
            return "".join(secrets.choice(SHORT) for _ in range(9))
        return self._prefix + secrets.token_hex(12)

    def _say(self, text: str) -> None:
        if text:
            self._flush()
            self._deltas.append(TextDelta(self._choice, text))

    def _say_rest(self, text: str) -> None:
        """Say what is no call, but for the end of an answer after one: half a mark of its end."""
        marks = ("}", "]", ",", ";", *self._format.close, self._format.each[1])
        half = self._scanner.ended and any(mark.startswith(text.strip()) for mark in marks)
        if text and not (self._after_call and half):
            self._after_call = False
            self._say(text)

    def _read(self) -> Reading[None]:
        scanner = self._scanner
        yield
        if self._format.bare:
            scanner.mark()
            yield from scanner.skip_space()
            if (yield from scanner.peek_or_end()) in ("{", "["):
                yield from self._section()
            else:
                self._say(scanner.since_mark())
        while (yield from self._text()):
            yield from self._section()

    def _text(self) -> Reading[bool]:
        """Read text up to the mark of a call, or to the end; return whether a call comes."""
        scanner, marks = self._scanner, self._format.open
        if self._after_call:
            yield from scanner.skip_space()
        while True:
            text = scanner.text[scanner.at :]
            found = [(at, mark) for mark in marks if (at := text.find(mark)) >= 0]
            at, mark = min(found, key=lambda each: (each[0], -len(each[1])), default=(-1, ""))
            end = at if mark else len(text) - max((overlap(text, m) for m in marks), default=0)
            if scanner.ended and not mark:
                self._say_rest(text)
                return False
            body = text[:end].rstrip()
            body = text[:end] if end - len(body) > HELD else body
            self._after_call = self._after_call and not body
            self._say(body)
            scanner.at += len(body)
            if mark:
                scanner.mark()
                scanner.at = end - len(body) + (0 if mark in self._format.kept else len(mark))
                return True
            self._plain = len(body) == len(text)
            yield
            self._plain = False

    def _section(self) -> Reading[None]:
        """Read calls, up to the mark of their end; what is none of them is said."""
        scanner, close = self._scanner, self._format.close
        self._after_call = False
        try:
            yield from scanner.skip_space()
            listed = yield from scanner.take("[")
            while True:
                yield from self._call()
                yield from scanner.skip_space()
                scanner.mark()
                yield from scanner.take(",", ";")
                yield from scanner.skip_space()
                if listed and (yield from scanner.take("]")):
                    listed = ""
                    yield from scanner.skip_space()
                    scanner.mark()
                if (yield from scanner.take(*close)):
                    return
                if not (yield from self._goes_on(bool(listed))):
                    return self._say_rest(scanner.since_mark())
        except Broken:
            self._say_rest(scanner.since_mark())

    def _call(self) -> Reading[None]:
        scanner, (opening, closing) = self._scanner, self._format.each
        if opening:
            yield from scanner.skip_space()
            yield from scanner.take(opening)
        yield from scanner.skip_space()
        syntax = yield from self._syntax()
        yield from syntax.read(scanner, self)
        if closing:
            yield from scanner.skip_space()
            yield from scanner.take(closing)

    def _syntax(self) -> Reading[Syntax]:
        """Return the syntax of the call that comes."""
        for syntax in self._format.syntaxes:
            if not syntax.begins or (yield from self._scanner.ahead(*syntax.begins)):
                return syntax
        raise Broken

    def _goes_on(self, listed: bool) -> Reading[bool]:
        """Return whether another call of the section comes, rather than text or the end."""
        if not (yield from self._scanner.peek_or_end()):
            return False
        format = self._format
        begins = [mark for syntax in format.syntaxes for mark in syntax.begins]
        begins += filter(None, format.each[:1])
        if listed or (yield from self._scanner.ahead(*begins)):
            return True
        return bool(format.close) and any(not syntax.begins for syntax in format.syntaxes)


class ToolParser:
    """A parser of answers that may call tools: what another takes for text is read for calls."""

    def __init__(self, inner: AnswerParser, reader: CallReader) -> None:
        self._inner, self._reader = inner, reader

    @property
    def reasoning(self) -> bool:
        return self._inner.reasoning

    @property
    def calls(self) -> int:
        return self._reader.calls

    def feed(self, token: AnswerToken) -> Sequence[Delta]:
        return self._read(self._inner.feed(token))

    def close(self) -> Sequence[Delta]:
        return [*self._read(self._inner.close()), *self._reader.close()]

    def _read(self, deltas: Sequence[Delta]) -> Sequence[Delta]:
        read: list[Delta] = []
        for delta in deltas:
            read += self._reader.feed(delta.text) if isinstance(delta, TextDelta) else (delta,)
        return read
