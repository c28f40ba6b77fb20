"""A checkpoint's tokenizer: text to tokens and back; for server and worker alike, without mlx."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import tokenizers

from .checkpoint.json_files import read_object
from .request import Request
from .text import AnswerText, ByteDetokenizer, Detokenizer, StopMatcher, WindowDetokenizer


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
        return list(self.encoding.encode(text, add_special_tokens=special).ids)

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


def _special_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """Return special tokens' texts by name; each is a string or an object that holds one."""
    values = {name: value for name, value in settings.items() if name.endswith("_token")}
    texts = {n: v.get("content") if isinstance(v, dict) else v for n, v in values.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _chat_template(directory: Path, value: Any) -> ChatTemplates:
    try:
        templates: ChatTemplates = msgspec.convert(value, ChatTemplates)
    except msgspec.ValidationError as error:
        where = directory / "tokenizer_config.json"
        raise TokenizerError(f"{where}: chat_template makes no sense ({error})") from None
    return templates


def _templates(directory: Path, settings: dict[str, Any]) -> Any:
    """Read chat templates; their own files count for more than tokenizer_config.json."""
    files = {"default": directory / "chat_template.jinja"}
    files |= {
        path.stem: path for path in sorted(directory.glob("additional_chat_templates/*.jinja"))
    }
    sources = {name: path.read_text("utf-8") for name, path in files.items() if path.is_file()}
    if sources.keys() == {"default"}:
        return sources["default"]
    if sources:
        return [{"name": name, "template": source} for name, source in sources.items()]
    processor = read_object(directory / "chat_template.json", TokenizerError) or {}
    return settings.get("chat_template") or processor.get("chat_template")


def load_tokenizer(
    directory: Path, prepare: Callable[[tokenizers.Tokenizer], None] | None = None
) -> Tokenizer:
    """Read tokenizer.json, what names its special tokens, and chat templates from a checkpoint.

    `prepare` changes the tokenizer while nobody else has it.
    """
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(
            f"{directory} has no tokenizer.json; convert its tokenizer with transformers' "
            "AutoTokenizer.save_pretrained"
        )
    try:
        encoding = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        raise TokenizerError(f"{path} cannot be read ({error}); fetch it again") from None
    if prepare is not None:
        prepare(encoding)
    settings = read_object(directory / "tokenizer_config.json", TokenizerError) or {}
    older = read_object(directory / "special_tokens_map.json", TokenizerError) or {}
    special = _special_tokens(older) | _special_tokens(settings)
    template = _chat_template(directory, _templates(directory, settings))
    return Tokenizer(encoding, special, template, settings)
