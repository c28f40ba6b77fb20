"""A reader of inputs: what it takes, and that it stays what it was read as."""

import json
from pathlib import Path

import pytest

from bessemer.engine.embedding.inputs import InputError, load_reader, truncating
from bessemer.engine.embedding.sentence_transformers import ModelOptions, describe
from bessemer.engine.text.loading import load_tokenizer

from ..tiny_embedders import EMBEDDERS

TEXT = "the cat sleeps on the old stone and the dog runs"


def test_a_shorter_reader_leaves_the_other_as_it_is(tmp_path: Path) -> None:
    reader = load_reader(describe(EMBEDDERS["no_modules"].write(tmp_path)), ModelOptions(), 160, 90)
    short = reader.shortened(6)
    assert (reader.longest, short.longest) == (20, 6)
    assert (len(reader.text(TEXT).tokens), len(short.text(TEXT).tokens)) == (13, 6)
    assert reader.shortened(20) is reader
    with pytest.raises(InputError, match="13 tokens, and the model takes 6"):
        short.text(TEXT, truncate=False)
    assert short.text(TEXT).tokens == [*reader.text(TEXT).tokens[:5], 2]


def test_ids_that_the_model_lacks_are_refused_with_their_text(tmp_path: Path) -> None:
    description = describe(EMBEDDERS["no_modules"].write(tmp_path))
    whole = load_reader(description, ModelOptions(), 160, 90)
    largest = max(whole.text(TEXT).tokens)
    less = load_reader(description, ModelOptions(), 160, largest)
    name = whole.tokenizer.id_to_token(largest)
    for read in (lambda: less.text(TEXT), lambda: less.pair("the", TEXT)):
        with pytest.raises(InputError, match=rf"token {largest} \('{name}'\) is not one of"):
            read()
    with pytest.raises(InputError, match="token 1000 is not one of the model's 90"):
        whole.tokens([1000])
    assert whole.tokens([1, largest]).tokens == [1, largest]


@pytest.mark.parametrize("side", ["left", "right"])
def test_special_tokens_stay_where_a_text_is_cut(tmp_path: Path, side: str) -> None:
    path = EMBEDDERS["no_modules"].write(tmp_path)
    settings = {
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "add_bos_token": False,
        "add_eos_token": True,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "truncation_side": side,
        "model_max_length": 8,
    }
    (path / "config.json").write_text(
        (path / "config.json").read_text().replace('"bert"', '"llama"')
    )
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(path)
    words = tokenizer.encode(TEXT, special=False)
    kept = words[-4:] if side == "left" else words[:4]
    end = tokenizer.id_of("[SEP]")
    assert truncating(tokenizer.encoding, 5, side).encode(TEXT).ids == [*kept, end]
