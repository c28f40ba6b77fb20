"""Prompts to tokens: what spells control tokens stays text, and only what is new is encoded."""

import re
import sys
from array import array
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain, pairwise
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
    those of its parts, which all cores encode side by side. What one client sent is not looked up
    for another.
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
        return self._guarding(guard).encode(text, special, most)

    def continued(
        self, text: str, guard: str = "", client: str = "", most: int = sys.maxsize
    ) -> list[int]:
        """Return the tokens of a conversation, as `encode` without special ones does."""
        known, start = self._known(text, guard, client)
        spans = self._dividers.spans(text, start)
        cuts = [start, *(begin for begin, _ in spans), len(text)]
        texts = [text[begin:end] for begin, end in pairwise(cuts)]
        parts = self._guarding(guard).encode_parts(texts, special=False, most=most)
        marks = [*accumulate(map(len, parts), initial=len(known.tokens))]
        fresh = [*chain.from_iterable(parts)]
        prompt = EncodedPrompt(
            client,
            text,
            guard,
            known.tokens + array("I", fresh),
            known.starts + array("I", cuts[1:-1]),
            known.ends + array("I", (end for _, end in spans)),
            known.marks + array("I", marks[1:-1]),
        )
        if spans or known.tokens:
            self._remember(prompt)
        return [*known.tokens, *fresh]

    def _guarding(self, guard: str) -> Tokenizer:
        """Return the tokenizer of texts with this guard."""
        if not guard:
            return self._tokenizer
        return replace(self._tokenizer, encoding=self._control.encoding(guard))

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

    def _remember(self, prompt: EncodedPrompt) -> None:
        """Keep a prompt instead of those that it goes on from; the oldest go where it is much."""
        with self._lock:
            kept = [each for each in self._prompts if not _continues(prompt, each)]
            kept = [*kept, prompt][-self._entries :]
            while sum(each.size for each in kept) > self._size:
                del kept[0]
            self._prompts = kept

    @cached_property
    def _dividers(self) -> ControlNames:
        return ControlNames(divider_names(self._tokenizer.encoding) & self._control.tokens)


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
