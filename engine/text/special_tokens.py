"""The tokens that a checkpoint's settings add to its tokenizer, name, or set around a text."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from ..checkpoint.json_files import read_object
from .tokenizer import TokenizerError

Tokens = Mapping[str, AddedToken]  # by purpose: bos_token and the like
Piece = tuple[str, int]  # a token and its id
PURPOSES = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Special tokens by purpose, others without one, and the added tokens that are told by id."""

    named: Tokens
    extra: tuple[AddedToken, ...]
    by_id: Mapping[int, AddedToken]

    def add_to(self, encoding: tokenizers.Tokenizer) -> None:
        """Add what the tokenizer lacks, and what it has with other flags, as transformers does.

        An id gives the order and no more: a token that is new gets the next free one.
        """
        known = encoding.get_added_tokens_decoder().values()
        same = {repr(token) for token in known}
        added = [token for _, token in sorted(self.by_id.items()) if repr(token) not in same]
        texts = {token.content for token in (*known, *added)}
        named = {token.content for token in self.named.values()}
        for token in (*self.named.values(), *self.extra):
            if token.content not in texts:
                texts.add(token.content)
                added.append(token)
        for token in added:
            token.special = token.special or token.content in named
        encoding.add_tokens(added)


def read_special_tokens(
    directory: Path,
    settings: Mapping[str, Any],
    defaults: Mapping[str, str | None],
    extras: Iterable[str],
    file: Mapping[int, AddedToken],
) -> SpecialTokens:
    """Read the tokens of tokenizer_config.json, and of older files where it tells none by id.

    `defaults` and `extras` come from the tokenizer's class, `file` are tokenizer.json's added ones.
    """
    where = directory / "tokenizer_config.json"
    if "added_tokens_decoder" in settings:
        named, extra = _named(where, settings), _extra(where, settings)
        by_id = _by_id(where, settings["added_tokens_decoder"])
    else:
        older = read_object(directory / "special_tokens_map.json", TokenizerError) or {}
        merged = {**settings, **{key: _as_special(value) for key, value in older.items()}}
        named, extra = _named(where, merged), _extra(where, settings) or _extra(where, merged)
        known = [token for name, token in named.items() if name in PURPOSES]
        by_id = _older(directory, {token.content for token in (*known, *extra)})
        by_id |= file
        settings = merged
    flags = {token.content: token for token in by_id.values()}
    unsaid = {name: text for name, text in defaults.items() if name not in settings and text}
    missing = {name: _special(text) for name, text in unsaid.items()}
    all_named = {**missing, **named}
    named = {name: flags.get(token.content, token) for name, token in all_named.items()}
    order = dict.fromkeys([*(name for name in PURPOSES if name in named), *named])
    extra = extra or tuple(map(_special, extras))
    return SpecialTokens({name: named[name] for name in order}, extra, by_id)


def surround(encoding: tokenizers.Tokenizer, named: Tokens, settings: Mapping[str, Any]) -> None:
    """Let a text begin and end as `add_bos_token` and `add_eos_token` ask, where they do.

    transformers 4 follows them; 5 ignores them beside a tokenizer.json, which is held for a fault.
    """
    present = _around(encoding)
    wanted = [_wanted(encoding, named, settings, purpose) for purpose in ("bos", "eos")]
    around = [old if new is None else new for old, new in zip(present, wanted, strict=True)]
    if around != present:
        encoding.post_processor = _template(*around)


def _wanted(
    encoding: tokenizers.Tokenizer, named: Tokens, settings: Mapping[str, Any], purpose: str
) -> list[Piece] | None:
    """Return what is to stand at an end of a text; None if the settings do not say."""
    wanted, token = settings.get(f"add_{purpose}_token"), named.get(f"{purpose}_token")
    number = None if token is None else encoding.token_to_id(token.content)
    if token is None or number is None or not isinstance(wanted, bool):
        return None
    return [(token.content, number)] if wanted else []


def _around(encoding: tokenizers.Tokenizer) -> list[list[Piece]]:
    """Return the tokens that the tokenizer puts before and after a text."""
    probe = tokenizers.Tokenizer(WordLevel({"x": 0}, unk_token="x"))
    if encoding.post_processor is not None:
        probe.post_processor = encoding.post_processor
    encoded = probe.encode("x")
    at = encoded.special_tokens_mask.index(0)
    pieces = list(zip(encoded.tokens, encoded.ids, strict=True))
    return [pieces[:at], pieces[at + 1 :]]


def _template(before: list[Piece], after: list[Piece]) -> TemplateProcessing:
    def part(text: str, segment: int) -> list[str]:
        names = *(name for name, _ in before), text, *(name for name, _ in after)
        return [f"{name}:{segment}" for name in names]

    first, special = part("$A", 0), sorted({*before, *after})
    return TemplateProcessing(first, [*first, *part("$B", 1)], special)


def _named(where: Path, settings: Mapping[str, Any]) -> Tokens:
    """Return the tokens that are named, those of a model's own names among them."""
    values = {key: value for key, value in settings.items() if key.endswith("_token")}
    given = _texts(values) | _texts(settings.get("extra_special_tokens"))
    if given.keys() <= set(PURPOSES):
        given |= _texts(settings.get("model_specific_special_tokens"))
    return {name: _token(where, value) for name, value in given.items()}


def _texts(values: Any) -> dict[str, Any]:
    """Return what may be tokens of a JSON object; of anything else, nothing."""
    pairs = values.items() if isinstance(values, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str | dict)}


def _extra(where: Path, settings: Mapping[str, Any]) -> tuple[AddedToken, ...]:
    value = settings.get("extra_special_tokens")
    if not value or isinstance(value, dict):
        value = settings.get("additional_special_tokens") or []
    if not isinstance(value, list):
        raise _senseless(where, "extra_special_tokens", value)
    return tuple(_token(where, token) for token in value)


def _by_id(where: Path, value: Any) -> dict[int, AddedToken]:
    if not isinstance(value, dict) or not all(key.isdecimal() for key in value):
        raise _senseless(where, "added_tokens_decoder", value)
    return {int(key): _token(where, token) for key, token in value.items()}


def _older(directory: Path, specials: Iterable[str]) -> dict[int, AddedToken]:
    where = directory / "added_tokens.json"
    ids = read_object(where, TokenizerError) or {}
    if wrong := [value for value in ids.values() if type(value) is not int]:
        raise _senseless(where, "an id", wrong[0])
    flags = {text: text in specials for text in ids}
    return {
        ids[text]: AddedToken(text, normalized=not special, special=special)
        for text, special in flags.items()
    }


def _as_special(value: Any) -> Any:
    return {**value, "special": True} if isinstance(value, dict) and "content" in value else value


def _special(text: str) -> AddedToken:
    return AddedToken(text, special=True)


def _token(where: Path, value: Any) -> AddedToken:
    """Read a token, which is a text or an object with its text and flags."""
    if isinstance(value, str):
        return _special(value)
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, str):
        raise _senseless(where, "a token", value)
    return AddedToken(content, **{flag: bool(value[flag]) for flag in FLAGS if flag in value})


def _senseless(where: Path, name: str, value: Any) -> TokenizerError:
    return TokenizerError(f"{where}: {name} makes no sense ({value!r:.80}); fetch it again")
