"""The messages of an answer in gpt-oss's format (harmony): what is on which channel.

https://cookbook.openai.com/articles/openai-harmony describes the format.
"""

import re

from ..request import Channels
from .specials import NONE, Specials, codes_in
from .stops import overlap

THOUGHTS = "analysis"  # the channel of thoughts; all others are for the reader
ROLES = ("assistant", "user", "system", "developer", "tool", "functions", "browser", "python")
TYPES = ("json", "code")  # that a model may give without the mark for them
WORDS = (*ROLES, *TYPES, "to=")
FUNCTION = re.compile(r"to=(functions\.[\w./-]+)")
LONGEST = 1000  # characters of a head; what goes on is no head


class ChannelSplitter:
    """A splitter of an answer into the thoughts on its channels, and text.

    A message's head (role, recipient, channel, type) is neither. Nothing else is lost: a call, as
    long as nobody asked for one, is text, and so is what follows a head without its last mark. Of
    the `calls` that were asked for a head is text too, the same for all that it may be:
    <|channel|>functions.NAME<|message|>.
    """

    def __init__(self, channels: Channels, specials: Specials = NONE, calls: bool = False) -> None:
        self._calls = calls
        self._marks = [specials.encode(mark) for mark in channels.marks]
        self._start, self._channel, constrain, self._message, *self._ends = self._marks
        self._mark = re.compile("|".join(map(re.escape, self._marks)))
        self._form = _head_form(*map(re.escape, (self._start, self._channel, constrain)))
        self._head: str | None = ""  # of the message that begins; None: in a message
        self._thinks = False
        self._held = ""
        self.feed(specials.encode(channels.begun))

    @property
    def inside(self) -> bool:
        return self._thinks and self._head is None

    @property
    def holds(self) -> bool:
        return bool(self._held)

    @property
    def settled(self) -> bool:
        return False  # another message may come

    def feed(self, piece: str) -> tuple[str, str]:
        """Return the reasoning and the text, in this order, that are now certain."""
        text, at = self._held + piece, 0
        out = {True: "", False: ""}
        for match in self._mark.finditer(text):
            self._add(text[at : match.start()], out)
            self._take(match[0], out)
            at = match.end()
        safe = len(text) - max(overlap(text[at:], mark) for mark in self._marks)
        self._add(text[at:safe], out)
        self._held = text[safe:]
        return out[True], out[False]

    def close(self) -> tuple[str, str]:
        """Return what was held back when the answer ended, as in `feed`."""
        held, self._held = self._held, ""
        out = {True: "", False: ""}
        self._add(held, out)
        self._leave_head(out)
        return out[True], out[False]

    def _add(self, text: str, out: dict[bool, str]) -> None:
        if self._head is None:
            out[self._thinks] += text
            return
        space = LONGEST - len(self._head)
        self._head += text[:space]
        rest = self._head[self._form_end() :].strip()
        if len(text) > space or not any(word.startswith(rest) for word in WORDS):
            self._leave_head(out)
            out[self._thinks] += text[space:]

    def _take(self, mark: str, out: dict[bool, str]) -> None:
        ends = mark in self._ends
        if self._head is not None and mark == self._message:
            function = FUNCTION.search(self._head) if self._calls else None
            if function is not None:
                out[False] += f"{self._channel}{function[1]}{mark}"
            self._thinks = function is None and self._on_thoughts()
            self._head = None
        elif ends or mark == self._start:
            self._leave_head(out)
            if ends and not self._thinks:
                out[False] += codes_in(mark)
            self._thinks, self._head = False, self._start
        elif self._head is not None:
            self._head += mark
        elif mark == self._channel:
            self._head = mark

    def _leave_head(self, out: dict[bool, str]) -> None:
        """Go on in the message of a head without its last mark; what does not fit there is said."""
        if self._head is None:
            return
        end, head = self._form_end(), self._head
        rest = head[end:].lstrip() if end else head
        self._thinks, self._head = self._on_thoughts(), None
        if not end or not any(word.startswith(rest) for word in WORDS):
            out[self._thinks] += rest

    def _form_end(self) -> int:
        match = self._form.match(self._head or "")
        return match.end() if match else 0

    def _on_thoughts(self) -> bool:
        match = self._form.match(self._head or "")
        return match is not None and match["channel"] == THOUGHTS


def _head_form(start: str, channel: str, constrain: str) -> re.Pattern[str]:
    """Return the form of a head: role, recipient, channel, recipient, type; each may be missing."""
    role = rf"(?:{start}\s*(?:[\w-]+\.[\w.-]*|(?:{'|'.join(ROLES)})(?!\w))?)?"
    kind = rf"(?:\s*{constrain}\s*\w*|\s*(?:{'|'.join(TYPES)})(?!\w))?"
    to = rf"(?:\s*to=(?:(?!{channel}|{constrain})\S)+{kind})?"
    return re.compile(rf"{role}{to}(?:{channel}\s*(?P<channel>\w*){to}{kind})?")
