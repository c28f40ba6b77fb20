"""A checkpoint's own generation settings: sampling defaults and the ids that end an answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..request import Sampling
from .json_files import read_object

# generation_config.json's names and ours are the same for these
_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class GenerationConfigError(ValueError):
    """generation_config.json makes no sense; the message names the field."""


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """Sampling settings, and the ids of all end-of-sequence tokens, in order."""

    defaults: Sampling
    eos_ids: tuple[int, ...]


def read_generation_config(
    directory: Path, config: Mapping[str, Any], tokenizer_eos: int | None
) -> GenerationConfig:
    """Read generation_config.json, and join what config.json, read already, and tokenizer say."""
    path = directory / "generation_config.json"
    settings = read_object(path, GenerationConfigError) or {}
    eos_ids = {tokenizer_eos} if tokenizer_eos is not None else set[int]()
    eos_ids.update(_ids(settings.get("eos_token_id")), _ids(config.get("eos_token_id")))
    return GenerationConfig(_defaults(path, settings), tuple(sorted(eos_ids)))


def _defaults(path: Path, settings: Mapping[str, Any]) -> Sampling:
    """Convert the sampling settings; do_sample false means greedy."""
    values = {name: settings[name] for name in _FIELDS if settings.get(name) is not None}
    if settings.get("do_sample") is False:
        values = {"temperature": 0.0} | {k: v for k, v in values.items() if k not in _FIELDS[:4]}
    try:
        return msgspec.convert(values, Sampling)
    except msgspec.ValidationError as error:
        raise GenerationConfigError(f"{path}: {error}") from None


def _ids(value: Any) -> Iterator[int]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int):
            yield item
