"""Prompts to tokens: what spells control tokens stays text, and only what is new is encoded."""

import re
import sys
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from sys import getsizeof
from threading import Lock

import tokenizers

from .control import ControlTokens, is_plain
from .control_names import ControlNames, common_length
from .tokenizer import Tokenizer

ENTRIES, BYTES = 64, 16 * 2**20  # of prompts that are remembered, at most


NUMBERS = array("I")  # none of them


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPrompt:
    """A prompt and its tokens; its dividers start and end there, and their tokens are `marks`."""

    client: str
    text: str
    guard: str
    tokens: "array[int]"
    starts: "array[int]"
    ends: "array[int]"
    marks: "array[int]"

    @property
    def size(self) -> int:
        return sum(map(getsizeof, (self.text, self.tokens, self.starts, self.ends, self.marks)))

    def shared(self, text: str, guard: str) -> int:
        """Count the characters that a text has in common with this one, and means the same by."""
        same = common_length(self.text, text)
        if guard == self.guard:
            return same
        found = [at for each in (guard, self.guard) if each and (at := text.find(each)) >= 0]
        return min([same, *found])


NOTHING = EncodedPrompt("", "", "", NUMBERS, NUMBERS, NUMBERS, NUMBERS)


class PromptEncoder:
    """An encoder of finished prompts, which remembers the last ones for the turns that follow.

    A text may be divided just before a divider: the name of an added token that is found wherever
    it stands in a text, because no other one overlaps its beginning. Tokenizers look for added
    tokens first, and encode what is between two of them by itself: so the tokens of a text are
    those of its parts. Which divider a token belongs to tells their order. What one client sent is
    not looked up for another.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        control: ControlTokens,
        entries: int = ENTRIES,
        size: int = BYTES,
    ) -> None:
        self._tokenizer, self._control = tokenizer, control
        self._entries, self._size = entries, size
        self._prompts: list[EncodedPrompt] = []  # the newest last
        self._lock = Lock()

    def encode(
        self, text: str, guard: str = "", special: bool = True, most: int = sys.maxsize
    ) -> list[int]:
        """Return a text's tokens, as Tokenizer.encode does."""
        tokenizer = self._tokenizer
        if guard:
            tokenizer = replace(tokenizer, encoding=self._control.encoding(guard))
        return tokenizer.encode(text, special, most)

    def continued(
        self, text: str, guard: str = "", client: str = "", most: int = sys.maxsize
    ) -> list[int]:
        """Return the tokens of a conversation, as `encode` without special ones does."""
        if not self._divider_names:
            return self.encode(text, guard, special=False, most=most)
        known, start = self._known(text, guard, client)
        fresh = self.encode(text[start:], guard, special=False, most=most)
        starts, ends, marks = self._divided(text, start, fresh, len(known.tokens))
        prompt = EncodedPrompt(
            client,
            text,
            guard,
            known.tokens + array("I", fresh),
            known.starts + starts,
            known.ends + ends,
            known.marks + marks,
        )
        self._remember(prompt)
        return [*known.tokens, *fresh]

    def _known(self, text: str, guard: str, client: str) -> tuple[EncodedPrompt, int]:
        """Return a known beginning of a text, up to a divider, and its length."""
        with self._lock:
            prompts = [each for each in self._prompts if each.client == client]
        shared = [each.shared(text, guard) for each in prompts]
        prompt = prompts[shared.index(max(shared))] if prompts else NOTHING
        count = bisect_right(prompt.ends, max(shared, default=0)) - 1
        if count < 0:
            return NOTHING, 0
        beginning = replace(
            prompt,
            tokens=prompt.tokens[: prompt.marks[count]],
            starts=prompt.starts[:count],
            ends=prompt.ends[:count],
            marks=prompt.marks[:count],
        )
        return beginning, prompt.starts[count]

    def _divided(
        self, text: str, start: int, tokens: Sequence[int], before: int
    ) -> tuple["array[int]", ...]:
        """Return where dividers start and end in a text, and where in its tokens they are."""
        spans = self._dividers.spans(text, start)
        ids = [self._tokenizer.id_of(text[slice(*span)]) for span in spans]
        sought = frozenset(ids)
        marks = array("I", (at for at, token in enumerate(tokens) if token in sought))
        if [tokens[at] for at in marks] != ids:
            return NUMBERS, NUMBERS, NUMBERS  # the vocabulary has one as a word
        marks = array("I", (before + at for at in marks))
        return array("I", (a for a, _ in spans)), array("I", (b for _, b in spans)), marks

    def _remember(self, prompt: EncodedPrompt) -> None:
        """Keep a prompt instead of those that it goes on from; the oldest go where it is much."""
        with self._lock:
            kept = [each for each in self._prompts if not _continues(prompt, each)]
            kept = [*kept, prompt][-self._entries :]
            while sum(each.size for each in kept) > self._size:
                del kept[0]
            self._prompts = kept

    @cached_property
    def _divider_names(self) -> frozenset[str]:
        return divider_names(self._tokenizer.encoding) & self._control.tokens

    @cached_property
    def _dividers(self) -> ControlNames:
        return ControlNames(self._divider_names)


def divider_names(encoding: tokenizers.Tokenizer) -> frozenset[str]:
    """Return the names of added tokens before which a text may be divided."""
    if encoding.encode_special_tokens or encoding.truncation is not None:
        return frozenset()
    plain = is_plain(encoding)
    added = [t for t in encoding.get_added_tokens_decoder().values() if plain or not t.normalized]
    names = {token.content for token in added}
    tails = {name[at:] for name in names for at in range(1, len(name))}
    heads = {name[:end] for name in names for end in range(1, len(name))}
    rests = "\0".join(name[1:] for name in names)
    return frozenset(
        token.content
        for token in added
        if not (token.lstrip or token.single_word)
        and re.match(r"[^\w\s].", token.content)  # no part of a word, nothing that is stripped
        and token.content not in heads  # a longer one may begin there
        and token.content not in rests
        and not any(token.content[:end] in tails for end in range(1, len(token.content)))
    )


def _continues(prompt: EncodedPrompt, earlier: EncodedPrompt) -> bool:
    if (prompt.client, prompt.guard) != (earlier.client, earlier.guard):
        return False
    return prompt.text.startswith(earlier.text)
