"""The kinds of values that fields of a file have, so that who reads one need not look."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MOST = 2**31  # of what is counted
SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters, or bytes that are no text


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value, in words and by its test."""

    said: str
    holds: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def listed(value: Any) -> bool:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(map(holds, value))

    return listed


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not SURROGATES.search(value)


def _are_texts(value: Any) -> bool:
    """Look through all at once, for a vocabulary is read several times."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    texts = [*value]
    return all(isinstance(each, str) for each in texts) and _is_text("\0".join(texts))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are_scores(value: Any) -> bool:
    """Look at all at once too: there are as many as tokens."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    return {*map(type, value)} <= {int, float} and not any(map(math.isnan, value))


def _or_list(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Take a count, or a list of others that is not empty."""
    listed = _list_of(holds)
    return lambda value: _is_count(value) or (value != [] and listed(value))


TEXT = Kind("a text in UTF-8", _is_text)
FLAG = Kind("true or false", _is_flag)
COUNT = Kind("a number of things", _is_count)
ID = Kind("a whole number", lambda value: type(value) is int)  # -1 says that there is none
IDS = Kind("a list of whole numbers", _list_of(lambda value: type(value) is int))
NUMBER = Kind("a number", _is_number)
SWITCH = Kind("a number, or true or false", lambda value: _is_flag(value) or _is_number(value))
TEXTS = Kind("a list of texts in UTF-8", _are_texts)
SCORES = Kind("a list of numbers", _are_scores)
LAYERED = Kind("a number of things, or a list of such for each layer", _or_list(_is_count))
PATTERN = Kind(
    "a number of things, or true or false for each layer",
    _or_list(lambda each: _is_flag(each) or _is_count(each)),
)
# By the whole name, or by what stands behind the architecture's; the first that matches counts.
KINDS: tuple[tuple[str, Kind], ...] = (
    (r"split\..*", COUNT),
    (r"general\.sampling\..*", NUMBER),
    (r"tokenizer\.ggml\.(tokens|merges)|tokenizer\.chat_templates", TEXTS),
    (r"tokenizer\.ggml\.(scores|token_type|precompiled_charsmap)", SCORES),
    (r"tokenizer\.ggml\.(add_\w+|normalizer\.\w+)", FLAG),
    (r"tokenizer\.ggml\.suppress_tokens", IDS),
    (r"tokenizer\.ggml\.\w+_token_id", ID),
    (r"tokenizer\.(ggml\.(model|pre)|chat_template(\..*)?)", TEXT),
    (r".*\.rope\.scaling\.type", TEXT),
    (r".*\.(rope\.scaling\.finetuned|expert_weights_norm)", FLAG),
    (r".*\.activation_sparsity_scale", SCORES),
    (r".*\.sliding_window_pattern", PATTERN),
    (r".*\.(head_count|head_count_kv|feed_forward_length|rope\.dimension_sections)", LAYERED),
    (r".*(_count|_rank|_length\w*|_window|_layers|_size|_kernel|_type|\.l_cache|_idx)", COUNT),
)


def kind_of(name: str) -> Kind:
    """Return the kind of a field that is read; most are numbers."""
    return next((kind for pattern, kind in KINDS if re.fullmatch(pattern, name)), SWITCH)
