"""A checkpoint's own wishes: sampling defaults and the ids that end an answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .files import read_object
from .request import Sampling

# generation_config.json's names and ours are the same for these
_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class GenerationError(ValueError):
    """generation_config.json makes no sense; the message names the field."""


def defaults(directory: Path) -> Sampling:
    """The sampling settings of generation_config.json; do_sample false means greedy."""
    settings = read_object(directory / "generation_config.json", GenerationError) or {}
    values = {name: settings[name] for name in _FIELDS if settings.get(name) is not None}
    if settings.get("do_sample") is False:
        values = {"temperature": 0.0} | {k: v for k, v in values.items() if k not in _FIELDS[:4]}
    try:
        return msgspec.convert(values, Sampling)
    except msgspec.ValidationError as error:
        raise GenerationError(f"{directory / 'generation_config.json'}: {error}") from None


def ends(directory: Path, tokenizer_eos: int | None) -> tuple[int, ...]:
    """The ids of all end-of-sequence tokens that the checkpoint's files name."""
    found = {tokenizer_eos} if tokenizer_eos is not None else set[int]()
    for name in ("generation_config.json", "config.json"):
        settings = read_object(directory / name, GenerationError) or {}
        found.update(_ids(settings.get("eos_token_id")))
    return tuple(sorted(found))


def _ids(value: Any) -> Iterator[int]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int):
            yield item
