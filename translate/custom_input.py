"""The free text that a model gives a custom tool, out of the JSON that it is written in."""

import re
from collections.abc import Iterator

import msgspec

START = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*"')
HALF = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
OTHER_HALF = r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# Characters of a JSON string that are whole: themselves, escaped, or a pair of surrogates.
WHOLE = re.compile(
    rf'(?:[^"\\]|\\["\\/bfnrt]|{HALF}{OTHER_HALF}|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{{4}})+'
)
LONE = re.compile(rf"{OTHER_HALF}|{HALF}(?=[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F])")
UNKNOWN = "\ufffd"


class InputReader:
    """A reader of the arguments of one call, in pieces of any size: a text is the first of them.

    It may go by any name, for a custom tool has but one. Without a text there is no input until
    the end, and then all that was written is the input.
    """

    def __init__(self) -> None:
        self._written: list[str] = []
        self._left = ""
        self._inside = self._over = False

    @property
    def written(self) -> str:
        return "".join(self._written)

    def feed(self, piece: str) -> str:
        """Return what a piece makes certain of the text."""
        self._written.append(piece)
        if self._over:
            return ""
        self._left += piece
        if not self._inside:
            start = START.match(self._left)
            if start is None:
                return ""
            self._inside, self._left = True, self._left[start.end() :]
        return "".join(self._read())

    def rest(self) -> str:
        """Return the input that no text has told."""
        return "" if self._inside else self.written

    def _read(self) -> Iterator[str]:
        while self._left:
            if match := WHOLE.match(self._left):
                yield msgspec.json.decode(f'"{escaped(match[0])}"')
            elif match := LONE.match(self._left):
                yield UNKNOWN
            else:
                self._over = self._left.startswith('"')
                return
            self._left = self._left[match.end() :]


def escaped(text: str) -> str:
    """Escape control characters, which models write as they are into texts."""
    return CONTROL.sub(lambda each: f"\\u{ord(each[0]):04x}", text)


CONTROL = re.compile("[\x00-\x1f]")
