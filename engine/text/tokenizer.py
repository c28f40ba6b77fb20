"""A checkpoint's tokenizer: text to tokens and back; for server and worker alike, without mlx."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypedDict

import msgspec
import tokenizers

from ..request import Request
from .answer_text import AnswerText
from .detokenizer import ByteDetokenizer, Detokenizer, WindowDetokenizer
from .stops import StopMatcher


class NamedTemplate(TypedDict):
    name: str
    template: str


ChatTemplates = str | list[NamedTemplate] | None


class TokenizerError(ValueError):
    """A tokenizer's files are missing or make no sense; the message says which and why."""


def _byte_alphabet() -> dict[str, int]:
    """Return the byte behind each character of a byte-level vocabulary, as GPT-2 defined it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


@dataclass(frozen=True)
class Tokenizer:
    """A checkpoint's tokenizer.json and the settings beside it."""

    encoding: tokenizers.Tokenizer
    special_tokens: Mapping[str, str]  # bos_token, eos_token and the like to their texts
    chat_template: ChatTemplates
    settings: Mapping[str, Any] = field(default_factory=dict)  # all of tokenizer_config.json

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Return token ids; `special` adds what a model expects around a bare text, as a BOS."""
        # Batches of one: only these spare the offsets, which nobody asks for.
        (encoded,) = self.encoding.encode_batch_fast([text], add_special_tokens=special)
        return list(encoded.ids)

    def decode(self, tokens: Sequence[int]) -> str:
        stream = self.detokenizer()
        return "".join([*map(stream.add, tokens), stream.flush()])

    def detokenizer(self) -> Detokenizer:
        if self._byte_level:
            return ByteDetokenizer(self._bytes)
        return WindowDetokenizer(self.encoding)

    def answer_text(self, request: Request) -> AnswerText:
        """Return the text of a request's answer, which looks for its stop strings."""
        stops = StopMatcher(request.stop)
        return AnswerText(self.detokenizer(), stops, request.min_tokens, request.thought)

    @property
    def eos(self) -> int | None:
        """The id that tokenizer_config.json gives to the end of a sequence."""
        return self.id_of(self.special_tokens.get("eos_token"))

    def id_of(self, token: str | None) -> int | None:
        return None if token is None else self.encoding.token_to_id(token)

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that a token stands for, of special tokens those of their name."""
        if self._byte_level:
            return self._bytes[token] or self._name(token).encode()
        name = self._name(token)
        if len(name) == 6 and name.startswith("<0x"):
            return bytes([int(name[3:5], 16)])
        return name.replace("\u2581", " ").encode()

    @cached_property
    def special_names(self) -> Mapping[int, str]:
        """The names of the tokens whose text is not shown, by id."""
        added = self.encoding.get_added_tokens_decoder()
        return {token: each.content for token, each in added.items() if each.special}

    @property
    def size(self) -> int:
        """The number of ids, added tokens included."""
        return self.encoding.get_vocab_size(with_added_tokens=True)

    @cached_property
    def longest(self) -> int:
        """The most characters that one token can stand for: bounds a text's tokens from below."""
        return max(map(len, self.encoding.get_vocab()), default=1)

    def _name(self, token: int) -> str:
        return self.encoding.id_to_token(token) or ""

    @cached_property
    def _byte_level(self) -> bool:
        decoder = msgspec.json.decode(self.encoding.to_str()).get("decoder") or {}
        return bool(decoder.get("type") == "ByteLevel")

    @cached_property
    def _bytes(self) -> list[bytes]:
        """The bytes of each id that are shown; special tokens have none."""
        alphabet = _byte_alphabet()
        table = [b""] * self.size
        for name, token in self.encoding.get_vocab(with_added_tokens=True).items():
            if token >= len(table):
                table.extend([b""] * (token + 1 - len(table)))
            try:
                table[token] = bytes(alphabet[character] for character in name)
            except KeyError:
                table[token] = name.encode()
        for token, added in self.encoding.get_added_tokens_decoder().items():
            table[token] = b"" if added.special else added.content.encode()
        return table
