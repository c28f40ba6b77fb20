"""Tokens that settings add, name or set around a text are as transformers has them."""

import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.text.loading import load_tokenizer
from bessemer.engine.text.tokenizer import Tokenizer, TokenizerError

from .matrix_tokenizers import build

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}
BYTE, SENTENCE = "byte_level", "prepended"


def _load(
    directory: Path, settings: dict[str, Any], kind: str = BYTE, around: str = "none"
) -> Tokenizer:
    build(kind, around, "both").save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(directory)


@pytest.mark.parametrize("kind", [BYTE, SENTENCE, "metaspace", "replaced", "unigram"])
@pytest.mark.parametrize("around", ["none", "begin", "both"])
@pytest.mark.parametrize("bos", [True, False, None])
@pytest.mark.parametrize("eos", [True, False, None])
def test_each_end_is_as_its_setting_says(
    tmp_path: Path, kind: str, around: str, bos: bool | None, eos: bool | None
) -> None:
    settings = {**NAMED, "add_bos_token": bos, "add_eos_token": eos}
    tokenizer = _load(tmp_path, settings, kind, around)
    begin, end = (tokenizer.id_of(NAMED[name]) for name in NAMED)
    begins = around != "none" if bos is None else bos
    ends = around == "both" if eos is None else eos
    body = tokenizer.encode("hello", special=False)
    assert body
    assert tokenizer.encode("hello") == [begin] * begins + body + [end] * ends


def test_settings_without_a_token_to_follow_leave_all_as_it_is(tmp_path: Path) -> None:
    settings = {"add_bos_token": False, "add_eos_token": True, "eos_token": None}
    tokenizer = _load(tmp_path, settings, SENTENCE, "begin")
    assert tokenizer.encode("hello")[0] == tokenizer.id_of("<s>")


def test_a_token_that_settings_or_the_class_deny_is_none(tmp_path: Path) -> None:
    settings = {"tokenizer_class": "GPT2Tokenizer", "eos_token": None}  # which has no pad_token
    assert {*_load(tmp_path, settings).special_tokens} == {"bos_token", "unk_token"}


def test_what_else_stands_around_a_text_stays(tmp_path: Path) -> None:
    # Qwen 3's embedding models: no BOS is asked for, and the end is tokenizer.json's own.
    settings = {"eos_token": "<|end|>", "add_bos_token": False}
    tokenizer = _load(tmp_path, settings, BYTE, "both")
    assert tokenizer.encode("hello")[-1] == tokenizer.id_of("</s>")


def test_tokens_that_the_vocabulary_lacks_get_the_next_ids(tmp_path: Path) -> None:
    size = _load(tmp_path, {}).encoding.get_vocab_size()
    tokenizer = _load(tmp_path, {"eos_token": "<new>", "image_token": "<image>"})
    assert tokenizer.eos == size
    assert tokenizer.encode("<image><new>", special=False) == [size + 1, size]
    assert set(tokenizer.special_names) >= {size, size + 1}
    assert tokenizer.special_tokens == {
        "eos_token": "<new>",
        "image_token": "<image>",
        "pad_token": "<s>",  # of a padding in tokenizer.json, which is off
    }


def test_a_token_may_be_called_content(tmp_path: Path) -> None:
    assert _load(tmp_path, {"eos_token": "<content>"}).special_tokens["eos_token"] == "<content>"


def test_older_files_count_where_no_token_has_an_id(tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|end|>"}}')
    (tmp_path / "added_tokens.json").write_text('{"<more>": 4000}')
    older = _load(tmp_path, {"eos_token": "</s>"})
    assert older.special_tokens["eos_token"] == "<|end|>"
    assert older.encode("<more>", special=False) == [older.encoding.get_vocab_size() - 1]
    newer = _load(tmp_path, {"eos_token": "</s>", "added_tokens_decoder": {}})
    assert newer.special_tokens["eos_token"] == "</s>"
    assert newer.id_of("<more>") is None


def test_flags_that_differ_are_the_settings(tmp_path: Path) -> None:
    token = {"content": "<added>", "special": True, "lstrip": True, "normalized": False}
    tokenizer = _load(tmp_path, {"added_tokens_decoder": {"320": token}})
    number = tokenizer.id_of("<added>")
    assert number in tokenizer.special_names
    bare = tokenizer.encode("hello", special=False)
    assert tokenizer.encode("hello   <added>", special=False) == [*bare, number]


def test_special_tokens_are_split_where_settings_say_so(tmp_path: Path) -> None:
    whole, split = (_load(tmp_path, {"split_special_tokens": each}) for each in (False, True))
    end = whole.id_of("<|end|>")
    assert whole.encode("<|end|>", special=False) == [end]
    assert end not in split.encode("<|end|>", special=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"added_tokens_decoder": ["<x>"]},
        {"added_tokens_decoder": {"one": {"content": "<x>"}}},
        {"added_tokens_decoder": {"1": 7}},
        {"bos_token": {"text": "<s>"}},
        {"extra_special_tokens": "<x>"},
        {"additional_special_tokens": [7]},
    ],
)
def test_settings_without_sense_are_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: .* makes no sense"):
        _load(tmp_path, settings)


def test_older_files_without_sense_are_named(tmp_path: Path) -> None:
    (tmp_path / "added_tokens.json").write_text('{"<more>": "4000"}')
    with pytest.raises(TokenizerError, match=r"added_tokens\.json: an id makes no sense"):
        _load(tmp_path, {})
