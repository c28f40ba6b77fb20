"""A checkpoint's tokenizer: text to tokens and back; for server and worker alike, without mlx."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from ..request import Refusal, Request
from .answer_text import AnswerText, make_splitter
from .detokenizer import (
    LONGEST,
    AnswerDetokenizer,
    ByteDetokenizer,
    Detokenizer,
    WindowDetokenizer,
)
from .specials import Specials
from .stops import KEPT, StopMatcher
from .thought_meter import ThoughtMeter

if TYPE_CHECKING:  # as whoever has a vocabulary alone needs no library
    import tokenizers

    from .vocabulary import Vocabulary

BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))  # tokens that stand for one, by name
PIECE = 2**16  # characters of a long text that are counted at once
INSIDE = "a"  # a text with which what follows a line or a sentence is not joined in one token


class NamedTemplate(TypedDict):
    name: str
    template: str


ChatTemplates = str | list[NamedTemplate] | None


class TokenizerError(ValueError):
    """A tokenizer's files are missing or make no sense; the message says which and why."""


def too_many_tokens(most: int) -> Refusal:
    message = f"The prompt has more than {most} tokens, too many for this model: shorten it."
    return Refusal(400, "context_length_exceeded", message)


def _byte_alphabet() -> Mapping[str, int]:
    """Return the byte behind each character of a byte-level vocabulary, as GPT-2 defined it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


ALPHABET = _byte_alphabet()


class _ShownBytes(dict[int, bytes]):
    """The bytes of each id that are shown, of a byte-level vocabulary; special tokens have none.

    They are found where they are first asked for, as few answers need many of them.
    """

    def __init__(self, encoding: "tokenizers.Tokenizer | Vocabulary") -> None:
        self._name = encoding.id_to_token
        self._added = encoding.get_added_tokens_decoder()

    def __missing__(self, token: int) -> bytes:
        added, name = self._added.get(token), self._name(token)
        if name is None:  # and so not kept: there are more such ids than memory
            return b""
        if added is not None:
            shown = b"" if added.special else name.encode()
        else:
            try:
                shown = bytes(map(ALPHABET.__getitem__, name))
            except KeyError:
                shown = name.encode()
        self[token] = shown
        return shown


@dataclass(frozen=True)
class Tokenizer:
    """A checkpoint's tokenizer.json and the settings beside it."""

    encoding: "tokenizers.Tokenizer"  # or a Vocabulary, which decodes alone
    special_tokens: Mapping[str, str]  # bos_token, eos_token and the like to their texts
    chat_template: ChatTemplates
    settings: Mapping[str, Any] = field(default_factory=dict)  # all of tokenizer_config.json

    def encode(self, text: str, special: bool = True, most: int = sys.maxsize) -> list[int]:
        """Return token ids; `special` adds what a model expects around a bare text, as a BOS.

        Raises Refusal for a text of more than `most` tokens, before it costs what they would.
        """
        (ids,) = self.encode_parts([text], special, most)
        return ids

    def encode_parts(
        self, texts: Sequence[str], special: bool = True, most: int = sys.maxsize
    ) -> list[list[int]]:
        """Return the token ids of each text, all cores at work where there are many.

        Raises Refusal where all have more than `most` tokens, before it costs what they would.
        """
        if sum(map(len, texts)) > 2 * most:  # words have fewer than half as many tokens
            self._refuse_hopeless(texts, most)
        # Batches alone spare the offsets, and let other threads run meanwhile.
        encoded = self.encoding.encode_batch_fast(texts, add_special_tokens=special)
        if sum(map(len, encoded)) > most:
            raise too_many_tokens(most)
        return [each.ids for each in encoded]

    def encode_within(self, text: str) -> list[int]:
        """Return the tokens of a text inside another: without what some put before a text.

        Some put it behind a special token too.
        """
        known = {name: token for token, name in self.special_names.items() if name in text}
        names = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
        parts = re.split(f"({names})", text) if names else [text]
        own = ([known[part]] if part in known else self._inside(part) for part in parts if part)
        return [*chain.from_iterable(own)]

    def _inside(self, text: str) -> list[int]:
        before, whole = (self.encode(each, special=False) for each in (INSIDE, INSIDE + text))
        if whole[: len(before)] == before:
            return whole[len(before) :]
        return self.encode(text, special=False)

    def decode(self, tokens: Sequence[int]) -> str:
        stream = self.detokenizer()
        return "".join([*map(stream.add, tokens), stream.flush()])

    def detokenizer(self, before: Sequence[int] = ()) -> Detokenizer:
        """Return a detokenizer of a text, or of one that goes on after the tokens `before`."""
        stream = self._new_detokenizer()
        texts = (token for token in reversed(before) if token not in self.special_names)
        for token in reversed([*islice(texts, LONGEST)]):
            stream.add(token)
        return stream

    def specials(self, request: Request, marks: tuple[str, ...] = ()) -> Specials:
        """Return the special tokens of a request's answer, which may have other marks too."""
        marks += () if request.thought is None else request.thought.marks
        return self._specials(marks, tuple(request.stop), not request.skip_special_tokens)

    def answer_detokenizer(self, request: Request, specials: Specials) -> AnswerDetokenizer:
        before = request.tokens if request.goes_on else ()
        return AnswerDetokenizer(self.detokenizer(before), specials)

    def answer_text(self, request: Request) -> AnswerText:
        """Return the text of a request's answer, which looks for its stop strings."""
        specials = self.specials(request)
        marks = None if request.stop_in_reasoning else request.thought
        return AnswerText(
            self.answer_detokenizer(request, specials),
            StopMatcher(request.stop, specials=specials),
            request.min_tokens,
            None if marks is None else make_splitter(marks, specials),
            self._meter(request, specials),
        )

    def _meter(self, request: Request, specials: Specials) -> ThoughtMeter | None:
        if request.budget is None or request.thought is None:
            return None
        return ThoughtMeter(request.budget, make_splitter(request.thought, specials))

    @property
    def eos(self) -> int | None:
        """The id that tokenizer_config.json gives to the end of a sequence."""
        return self.id_of(self.special_tokens.get("eos_token"))

    def id_of(self, token: str | None) -> int | None:
        return None if token is None else self.encoding.token_to_id(token)

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that a token stands for, of special tokens those of their name.

        An id without a token, as padded vocabularies have, stands for none.
        """
        name = self.name(token)
        if self._byte_level:
            return self._bytes[token] or name.encode()
        if (byte := self._fallback.get(token)) is not None:
            return byte
        return name.replace("\u2581", " ").encode()

    @cached_property
    def special_names(self) -> Mapping[int, str]:
        """The names of the tokens whose text is not shown, by id."""
        added = self.encoding.get_added_tokens_decoder()
        return {token: each.content for token, each in added.items() if each.special}

    @cached_property
    def longest(self) -> int:
        """The most characters that one token can stand for: bounds a text's tokens from below."""
        count = self.encoding.get_vocab_size()
        lengths = [len(name) for each in range(count) if (name := self.name(each))]
        if len(lengths) < count:  # ids have holes; else a copy of all names would cost ten times
            lengths = [*map(len, self.encoding.get_vocab())]
        return max(lengths, default=1)

    @cached_property
    def _specials(self) -> Callable[[tuple[str, ...], tuple[str, ...], bool], Specials]:
        """Make special tokens of answers, one for all choices of a request."""
        return lru_cache(KEPT)(partial(Specials, self.special_names))

    def _refuse_hopeless(self, texts: Sequence[str], most: int) -> None:
        """Refuse texts whose pieces have many more than `most` tokens, which cuts cannot make."""
        count = 0
        for piece in (text[at : at + PIECE] for text in texts for at in range(0, len(text), PIECE)):
            (encoded,) = self.encoding.encode_batch_fast([piece], add_special_tokens=False)
            count += len(encoded)
            if count > 2 * most:
                raise too_many_tokens(most)

    def name(self, token: int) -> str:
        """Return a token's name in the vocabulary; an id without a token has none."""
        return self.encoding.id_to_token(token) or ""

    def _new_detokenizer(self) -> Detokenizer:
        if self._byte_level:
            return ByteDetokenizer(self._bytes)
        return WindowDetokenizer(self.encoding, self._fallback)

    @cached_property
    def _steps(self) -> list[str]:
        """The kinds of the decoder's steps, in order."""
        decoder = self.encoding.decoder
        decoder = {} if decoder is None else msgspec.json.decode(decoder.__getstate__())
        return [step.get("type", "") for step in decoder.get("decoders", [decoder])]

    @property
    def _byte_level(self) -> bool:
        return "ByteLevel" in self._steps and {"ByteLevel", "Fuse"}.issuperset(self._steps)

    @cached_property
    def _fallback(self) -> Mapping[int, bytes]:
        """The bytes of the tokens that stand for one, where no token stands for a character."""
        if "ByteFallback" not in self._steps:
            return {}
        ids = map(self.encoding.token_to_id, BYTES)
        return {token: bytes([byte]) for byte, token in enumerate(ids) if token is not None}

    @cached_property
    def _bytes(self) -> "_ShownBytes":
        return _ShownBytes(self.encoding)
