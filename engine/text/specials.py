"""Special tokens in an answer's text: each that matters there is a character that no text holds."""

from collections.abc import Iterable, Mapping

FIRST, MOST = 0xD800, 0x800  # the surrogates, which no decoder of UTF-8 yields


class Specials:
    """The special tokens of an answer: `names` by id, of which texts have codes, a character each.

    Codes belong to the names that a format's `marks` or the `stops` hold, so that text which
    merely spells such a name is never taken for it. The other special tokens are no text, or their
    names where they are `shown`; marks never are.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        marks: Iterable[str] = (),
        stops: Iterable[str] = (),
        shown: bool = False,
    ) -> None:
        sought = [*marks] if shown else [*marks, *stops]
        held = {name for name in names.values() if any(name in text for text in sought)}
        longest_first = sorted(held - {""}, key=lambda name: (-len(name), name))
        self.codes = {name: chr(FIRST + i) for i, name in enumerate(longest_first[:MOST])}
        self._names = names
        self._shown = shown
        self._gone = dict.fromkeys(map(ord, self.codes.values()))

    def name(self, token: int) -> str | None:
        """Return the name of a special token, None of any other."""
        return self._names.get(token)

    def text(self, token: int, hidden: bool = False) -> str | None:
        """Return a special token's text, None of any other token; hidden ones have no names."""
        name = self._names.get(token)
        if name is None:
            return None
        return self.codes.get(name, name if self._shown and not hidden else "")

    def encode(self, text: str) -> str:
        """Return a mark or a stop string as answers hold it, with codes for names."""
        for name, code in self.codes.items():
            text = text.replace(name, code)
        return text

    def plain(self, text: str) -> str:
        """Return a text as the client reads it, without codes."""
        return text.translate(self._gone) if self.codes else text


NONE = Specials({})


def codes_in(text: str) -> str:
    """Return the codes of a text alone."""
    return "".join(character for character in text if 0 <= ord(character) - FIRST < MOST)
