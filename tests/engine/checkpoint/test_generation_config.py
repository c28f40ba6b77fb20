"""generation_config.json and its neighbours: sampling defaults and the ids that end an answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.checkpoint.generation_config import (
    GenerationConfig,
    GenerationConfigError,
    read_generation_config,
)
from bessemer.engine.request import Sampling


def write(directory: Path, name: str, value: Any) -> None:
    (directory / name).write_text(json.dumps(value))


def test_without_a_file_the_defaults_change_nothing(tmp_path: Path) -> None:
    assert read_generation_config(tmp_path, {}, None) == GenerationConfig(Sampling(), ())


def test_sampling_settings_are_taken_over(tmp_path: Path) -> None:
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": None}
    write(tmp_path, "generation_config.json", settings | {"max_length": 99})
    sampling = Sampling(temperature=0.6, top_k=20, top_p=0.95)
    assert read_generation_config(tmp_path, {}, None).defaults == sampling


def test_do_sample_false_is_greedy(tmp_path: Path) -> None:
    write(tmp_path, "generation_config.json", {"do_sample": False, "temperature": 0.6, "top_k": 5})
    assert read_generation_config(tmp_path, {}, None).defaults == Sampling(temperature=0)


def test_eos_ids_come_from_all_files(tmp_path: Path) -> None:
    write(tmp_path, "generation_config.json", {"eos_token_id": [7, 5]})
    config = {"eos_token_id": 9}
    assert read_generation_config(tmp_path, config, 3).eos_ids == (3, 5, 7, 9)
    assert read_generation_config(tmp_path, config, None).eos_ids == (5, 7, 9)


@pytest.mark.parametrize("text", ["{", "[]", '{"top_k": "many"}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(GenerationConfigError, match=r"generation_config\.json"):
        read_generation_config(tmp_path, {}, None)
