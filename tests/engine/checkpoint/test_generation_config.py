"""generation_config.json and its neighbours: defaults, rules for tokens, the ids that end answers.

What fields mean is said by transformers' generation/configuration_utils.py and logits_process.py.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.checkpoint.generation_config import (
    GenerationConfig,
    GenerationConfigError,
    read_generation_config,
)
from bessemer.engine.request import GenerationDefaults, Sampling
from bessemer.engine.token_rules import BANNED, NO_RULES, GenerationRules

VOCABULARY = 100


def read(
    directory: Path,
    settings: dict[str, Any] | None,
    config: dict[str, Any] | None = None,
    tokenizer_eos: int | None = None,
) -> GenerationConfig:
    if settings is not None:
        (directory / "generation_config.json").write_text(json.dumps(settings))
    return read_generation_config(directory, config or {}, tokenizer_eos, VOCABULARY)


def rules(directory: Path, **settings: Any) -> GenerationRules:
    return read(directory, settings).rules


def defaults(directory: Path, **settings: Any) -> GenerationDefaults:
    return read(directory, settings).defaults


def test_without_a_file_the_defaults_change_nothing(tmp_path: Path) -> None:
    nothing = GenerationConfig(GenerationDefaults(), (), NO_RULES, ())
    assert read(tmp_path, None) == read(tmp_path, {}) == nothing


def test_sampling_settings_are_taken_over(tmp_path: Path) -> None:
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 1, "min_p": None}
    penalties: dict[str, Any] = {
        "presence_penalty": 1.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.05,
    }
    sampling = Sampling(temperature=0.6, top_k=20, top_p=1, **penalties)
    assert defaults(tmp_path, **settings, **penalties) == GenerationDefaults(sampling=sampling)
    assert defaults(tmp_path, top_k=-1, min_p=0.1).sampling == Sampling(min_p=0.1)


def test_do_sample_false_is_greedy_with_the_penalties_that_there_are(tmp_path: Path) -> None:
    settings = {"temperature": 0.6, "top_k": 5, "top_p": 0.5, "repetition_penalty": 1.2}
    greedy = defaults(tmp_path, do_sample=False, **settings).sampling
    assert greedy == Sampling(temperature=0, repetition_penalty=1.2)


def test_eos_ids_come_from_all_files(tmp_path: Path) -> None:
    settings = {"eos_token_id": [7, 5, VOCABULARY, -1]}
    assert read(tmp_path, settings, {"eos_token_id": 9}, 3).eos_ids == (3, 5, 7, 9)
    assert read(tmp_path, settings, {"eos_token_id": [9, 5]}).eos_ids == (5, 7, 9)
    assert read(tmp_path, settings, {"text_config": {"eos_token_id": [1]}}).eos_ids == (1, 5, 7)
    config: dict[str, Any] = {"eos_token_id": None, "text_config": {"eos_token_id": 1}}
    assert read(tmp_path, {}, config).eos_ids == (1,)
    config = {"eos_token_id": 2, "text_config": {"eos_token_id": 1}}
    assert read(tmp_path, {"eos_token_id": 8}, config).eos_ids == (2, 8)
    assert read(tmp_path, {}, {"eos_token_id": "</s>", "text_config": None}).eos_ids == ()


def test_without_a_file_its_fields_are_read_from_the_config(tmp_path: Path) -> None:
    """transformers' from_pretrained takes config.json then, as models from before 2023 need."""
    older: dict[str, Any] = {"do_sample": True, "temperature": 0.6, "max_length": 90}
    older |= {"stop_strings": ["END"], "suppress_tokens": [4], "eos_token_id": "</s>"}
    odd = {"typical_p": 0.9, "num_beams": 4, "epsilon_cutoff": 1e-3}
    config = older | odd | {"vocab_size": 100, "num_beam_groups": 1, "quantization": {"bits": 4}}
    found = read(tmp_path, None, config)
    sampling = Sampling(temperature=0.6)
    assert found.defaults == GenerationDefaults(sampling=sampling, stop=["END"], max_length=90)
    assert found.rules == GenerationRules(suppress_tokens=(4,))
    assert found.ignored == tuple(odd)
    greedy = read(tmp_path, None, {"do_sample": False, "top_k": 50, "max_length": 20}).defaults
    assert greedy == GenerationDefaults(sampling=Sampling(temperature=0))
    with pytest.raises(GenerationConfigError, match=r"config\.json: .*top_p"):
        read(tmp_path, None, {"top_p": 3})
    assert read(tmp_path, {}, config) == read(tmp_path, {})


def test_lengths_and_stop_strings_are_defaults(tmp_path: Path) -> None:
    lengths = {"min_new_tokens": 3, "max_new_tokens": 70, "min_length": 9, "max_length": 2048}
    assert defaults(tmp_path, **lengths, stop_strings=["\nUser:", "", "END"]) == GenerationDefaults(
        stop=["\nUser:", "END"], min_tokens=3, max_tokens=70, min_length=9, max_length=2048
    )
    assert defaults(tmp_path, stop_strings="END").stop == ["END"]
    for unsaid in (None, 0, 20):  # transformers' own default is no wish of the model's
        assert defaults(tmp_path, max_length=unsaid, min_length=0) == GenerationDefaults()


def test_suppressed_and_forced_ids_are_those_that_the_model_has(tmp_path: Path) -> None:
    assert rules(
        tmp_path,
        suppress_tokens=[0, 1, 99, 100, 262_144, -1],
        begin_suppress_tokens=[220, 50],
        forced_bos_token_id=5,
        forced_eos_token_id=[2, 3, 50257],
    ) == GenerationRules((0, 1, 99), (50,), {}, 0, (5,), (2, 3))
    assert rules(tmp_path, suppress_tokens=[], forced_eos_token_id=None) == NO_RULES
    assert rules(tmp_path, forced_eos_token_id=100, forced_bos_token_id=[100]) == NO_RULES


def test_bad_words_are_biases_of_minus_infinity_but_for_an_end(tmp_path: Path) -> None:
    """NoBadWordsLogitsProcessor leaves [eos] out, and no other word with an eos in it."""
    found = rules(
        tmp_path,
        eos_token_id=[2, 3],
        bad_words_ids=[[2], [3], [3, 4], [5], [6, 7, 8], [], [200]],
        sequence_bias=[
            [[10, 45], -2.0],
            [[64], -7.5],
            [[5], 3],
            [[45, 200], 1.0],
            [[9], -math.inf],
        ],
        no_repeat_ngram_size=3,
    )
    words = {(3, 4): BANNED, (5,): BANNED, (6, 7, 8): BANNED, (200,): BANNED}
    biases = {(10, 45): -2.0, (64,): -7.5, (9,): BANNED}
    assert found == GenerationRules(sequence_bias=biases | words, no_repeat_ngram_size=3)


def test_what_is_not_followed_is_named_where_it_means_something(tmp_path: Path) -> None:
    followed = {"temperature": 0.5, "eos_token_id": 2, "stop_strings": "x", "max_length": 9}
    neutral = {"typical_p": 1.0, "num_beams": 1, "epsilon_cutoff": 0.0, "guidance_scale": None}
    neutral |= {"watermarking_config": {}, "force_words_ids": [], "remove_invalid_values": False}
    about = {"_from_model_config": True, "transformers_version": "5.24.0", "pad_token_id": -1}
    about |= {"use_cache": False, "cache_implementation": "hybrid", "output_scores": True}
    about |= {"bos_token_id": [1], "num_assistant_tokens": 20, "assistant_lookbehind": 10}
    odd = {"typical_p": 0.9, "num_beams": 4, "chat_format": "chatml", "eta_cutoff": 1e-3}
    odd |= {"exponential_decay_length_penalty": [5, 1.1], "penalty_alpha": 0.6, "max_time": 3}
    assert read(tmp_path, followed | neutral | about).ignored == ()
    assert read(tmp_path, followed | about | odd).ignored == tuple(odd)


def test_each_field_of_transformers_that_is_not_followed_is_named(tmp_path: Path) -> None:
    """These are all of transformers 5.24's GenerationConfig that change what is drawn."""
    names = [
        "constraints",
        "dola_layers",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "epsilon_cutoff",
        "eta_cutoff",
        "exponential_decay_length_penalty",
        "force_words_ids",
        "guidance_scale",
        "max_time",
        "num_beams",
        "num_return_sequences",
        "penalty_alpha",
        "remove_invalid_values",
        "token_healing",
        "top_h",
        "typical_p",
        "watermarking_config",
    ]
    assert read(tmp_path, None, dict.fromkeys(names, 0.5)).ignored == tuple(names)
    assert read(tmp_path, dict.fromkeys(names, 0.5)).ignored == tuple(names)
    assert read(tmp_path, dict.fromkeys(names)).ignored == ()
    assert read(tmp_path, dict.fromkeys(names, 0)).ignored == ()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [-0.1, "hot", math.nan, math.inf, [1]]),
        ("top_k", ["many", -2, 1.5, True, 2**31]),
        ("top_p", [-0.1, 1.1, "0.9", math.nan]),
        ("min_p", [-0.1, 2, {}]),
        ("repetition_penalty", [0, -1, "1", math.inf]),
        ("presence_penalty", [2.5, "0"]),
        ("frequency_penalty", [-3, []]),
        ("do_sample", ["false", 0, 1]),
        ("eos_token_id", ["</s>", [1, "x"], 1.5, True]),
        ("stop_strings", [5, ["x", 5], {}]),
        ("min_new_tokens", [-1, "5"]),
        ("max_new_tokens", [0, -1, "5", 2**31]),
        ("min_length", [-1]),
        ("max_length", [-1, "long"]),
        ("suppress_tokens", [5, "x", [[1]], [1.5]]),
        ("begin_suppress_tokens", [5, ["x"]]),
        ("bad_words_ids", [5, [5], ["x"], [["x"]]]),
        ("sequence_bias", [{"5": 1}, [[5, 1.0]], [[[5]]], [[[5], math.nan]], [[[5], math.inf]]]),
        ("no_repeat_ngram_size", [-1, "3"]),
        ("forced_bos_token_id", ["x", [None]]),
        ("forced_eos_token_id", ["x", 1.5]),
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_named(
    tmp_path: Path, name: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(GenerationConfigError) as caught:
            read(tmp_path, {"do_sample": True} | {name: value})
        message = str(caught.value)
        assert "generation_config.json" in message and name in message and "\n" not in message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [0, 100]),
        ("top_k", [0, 2**31 - 1]),
        ("top_p", [1e-9, 1]),
        ("min_p", [0, 1]),
        ("presence_penalty", [-2, 2]),
    ],
)
def test_the_ends_of_a_range_are_in_it(tmp_path: Path, name: str, values: list[Any]) -> None:
    for value in values:
        defaults = read(tmp_path, {"do_sample": True} | {name: value}).defaults
        assert getattr(defaults.sampling, name) == value


@pytest.mark.parametrize("text", ["{", "[]", "", "null", "\xff"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text, "latin-1")
    with pytest.raises(GenerationConfigError, match=r"generation_config\.json"):
        read(tmp_path, None)
