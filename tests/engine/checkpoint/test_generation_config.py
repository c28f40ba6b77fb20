"""What generation_config.json and its neighbours settle."""

import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.checkpoint.generation_config import Generation, GenerationError, load
from bessemer.engine.request import Sampling


def write(directory: Path, name: str, value: Any) -> None:
    (directory / name).write_text(json.dumps(value))


def test_without_a_file_the_defaults_change_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, {}, None) == Generation(Sampling(), ())


def test_sampling_settings_are_taken_over(tmp_path: Path) -> None:
    wishes = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": None}
    write(tmp_path, "generation_config.json", wishes | {"max_length": 99})
    wanted = Sampling(temperature=0.6, top_k=20, top_p=0.95)
    assert load(tmp_path, {}, None).defaults == wanted


def test_do_sample_false_is_greedy(tmp_path: Path) -> None:
    write(tmp_path, "generation_config.json", {"do_sample": False, "temperature": 0.6, "top_k": 5})
    assert load(tmp_path, {}, None).defaults == Sampling(temperature=0)


def test_ends_come_from_all_files(tmp_path: Path) -> None:
    write(tmp_path, "generation_config.json", {"eos_token_id": [7, 5]})
    config = {"eos_token_id": 9}
    assert load(tmp_path, config, 3).ends == (3, 5, 7, 9)
    assert load(tmp_path, config, None).ends == (5, 7, 9)


@pytest.mark.parametrize("text", ["{", "[]", '{"top_k": "many"}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(GenerationError, match=r"generation_config\.json"):
        load(tmp_path, {}, None)
