"""A checkpoint's own generation settings: what requests leave open, rules for tokens, eos ids."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from ..request import GenerationDefaults, Sampling
from ..token_rules import GenerationRules, bad_words
from .json_files import read_object

Id = int  # may be one that the model lacks, or -1: such an id is passed over
Ids = Id | list[Id] | None
INT32 = 2**31 - 1
Count = Annotated[int, Meta(ge=0, le=INT32)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
OLD_MAX_LENGTH = 20  # transformers' own default, which older files hold

# Of the fields that are not followed, those that change nothing at 1; any does nothing at 0.
NEUTRAL_AT_ONE = {
    *("typical_p", "top_h", "encoder_repetition_penalty", "guidance_scale"),
    *("num_beams", "num_return_sequences"),
}
NOT_FOLLOWED = NEUTRAL_AT_ONE | {
    *("constraints", "dola_layers", "encoder_no_repeat_ngram_size", "epsilon_cutoff"),
    *("eta_cutoff", "exponential_decay_length_penalty", "force_words_ids", "max_time"),
    *("penalty_alpha", "remove_invalid_values", "token_healing", "watermarking_config"),
}
# What is no setting of the draw, or changes how fast it comes and not what comes.
APART = re.compile(
    r"_\w+|transformers_version|(bos|pad|decoder_start)_token_id|use_cache|cache_\w+|max_cache_len"
    r"|return_dict_in_generate|output_\w+|renormalize_logits|early_stopping|length_penalty"
    r"|num_beam_groups|diversity_penalty|low_memory|is_assistant|(num_)?assistant_\w+"
    r"|target_lookbehind|prompt_lookup_num_tokens|max_matching_ngram_size|speculation_type|use_mtp"
    r"|compile_config|disable_compile|continuous_batching_config|prefill_chunk_size"
)


class GenerationConfigError(ValueError):
    """What a checkpoint says of generation makes no sense; the message names file and field."""


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """What a checkpoint says of generation; `ignored` names fields that are not followed."""

    defaults: GenerationDefaults
    eos_ids: tuple[int, ...]  # in order
    rules: GenerationRules
    ignored: tuple[str, ...]


class Fields(Struct, kw_only=True):
    """The fields of transformers' GenerationConfig that are followed; null is absent."""

    do_sample: bool | None = None
    temperature: NonNegative | None = None
    top_k: Annotated[int, Meta(ge=-1, le=INT32)] | None = None
    top_p: Fraction | None = None
    min_p: Fraction | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    eos_token_id: Ids = None
    stop_strings: str | list[str] | None = None
    min_new_tokens: Count | None = None
    max_new_tokens: Annotated[int, Meta(ge=1, le=INT32)] | None = None
    min_length: Count | None = None
    max_length: Count | None = None
    suppress_tokens: list[Id] | None = None
    begin_suppress_tokens: list[Id] | None = None
    bad_words_ids: list[list[Id]] | None = None
    sequence_bias: list[tuple[list[Id], float]] | None = None
    no_repeat_ngram_size: Count | None = None
    forced_bos_token_id: Ids = None
    forced_eos_token_id: Ids = None


def read_generation_config(
    directory: Path, config: Mapping[str, Any], tokenizer_eos: int | None, vocabulary: int
) -> GenerationConfig:
    """Read generation_config.json, and join what config.json, read already, and tokenizer say.

    Older checkpoints have its fields in config.json, which count where there is no such file.
    Ids are passed over that a model of so many lacks.
    """
    path = directory / "generation_config.json"
    settings = read_object(path, GenerationConfigError)
    if settings is None:
        path = directory / "config.json"
        settings = _older(config)
    try:
        fields = msgspec.convert(settings, Fields)
    except msgspec.ValidationError as error:
        raise GenerationConfigError(f"{path}: {error}") from None
    if odd := _odd(fields):
        raise GenerationConfigError(f"{path}: {odd} is not a finite number")
    of_config = _ids(_of_text(config, "eos_token_id"))
    eos_ids = [*_ids(fields.eos_token_id), *of_config, *_ids(tokenizer_eos)]
    return GenerationConfig(
        _defaults(fields),
        tuple(sorted(set(_known(eos_ids, vocabulary)))),
        _rules(fields, eos_ids, vocabulary),
        tuple(name for name, value in settings.items() if _is_ignored(name, value)),
    )


def _defaults(fields: Fields) -> GenerationDefaults:
    """Convert what requests may leave open; `do_sample` false means greedy."""
    each = ((name, getattr(fields, name, None)) for name in Sampling.__struct_fields__)
    values: dict[str, Any] = {name: value for name, value in each if value is not None}
    values["top_k"] = max(values.get("top_k", 0), 0)
    if fields.do_sample is False:
        draw = ("temperature", "top_k", "top_p", "min_p")
        values = {n: v for n, v in values.items() if n not in draw} | {"temperature": 0.0}
    stops = fields.stop_strings or []
    max_length = fields.max_length or None
    return GenerationDefaults(
        sampling=Sampling(**values),
        stop=[stop for stop in ([stops] if isinstance(stops, str) else stops) if stop],
        min_tokens=fields.min_new_tokens or 0,
        max_tokens=fields.max_new_tokens,
        min_length=fields.min_length or 0,
        max_length=None if max_length == OLD_MAX_LENGTH else max_length,
    )


def _rules(fields: Fields, eos_ids: list[int], vocabulary: int) -> GenerationRules:
    words = [word for word in fields.bad_words_ids or () if word not in [[end] for end in eos_ids]]
    biases = {tuple(ids): bias for ids, bias in fields.sequence_bias or () if ids}
    known = {ids: bias for ids, bias in biases.items() if _known(ids, vocabulary) == ids}
    return GenerationRules(
        suppress_tokens=_known(fields.suppress_tokens or (), vocabulary),
        begin_suppress_tokens=_known(fields.begin_suppress_tokens or (), vocabulary),
        sequence_bias={**known, **bad_words(words)},
        no_repeat_ngram_size=fields.no_repeat_ngram_size or 0,
        forced_bos_token_id=_known(_ids(fields.forced_bos_token_id), vocabulary),
        forced_eos_token_id=_known(_ids(fields.forced_eos_token_id), vocabulary),
    )


def _older(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of generation_config.json that config.json has, without the eos ids."""
    names = {*Fields.__struct_fields__, *NOT_FOLLOWED} - {"eos_token_id"}
    return {name: value for name, value in config.items() if name in names}


def _ids(value: Any) -> Iterator[int]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int):
            yield item


def _known(ids: Any, vocabulary: int) -> tuple[int, ...]:
    return tuple(each for each in ids if 0 <= each < vocabulary)


def _of_text(config: Mapping[str, Any], name: str) -> Any:
    """Return what config.json says of its whole model, or of the part that writes text."""
    part = config.get("text_config")
    found = config.get(name)
    return part.get(name) if found is None and isinstance(part, dict) else found


def _odd(fields: Fields) -> str | None:
    """Return the first field that is NaN or infinite; JSON files of Python's may hold such."""
    for name, value in structs.asdict(fields).items():
        if isinstance(value, float) and not math.isfinite(value):
            return name
    return None if all(b < math.inf for _, b in fields.sequence_bias or ()) else "sequence_bias"


def _is_ignored(name: str, value: Any) -> bool:
    followed = name in Fields.__struct_fields__ or APART.fullmatch(name)
    return not followed and bool(value) and not (name in NEUTRAL_AT_ONE and value == 1)
