"""A reader of inputs: what it takes, and that it stays what it was read as."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bessemer.engine.embedding.inputs import Input, InputError, load_reader, truncating
from bessemer.engine.embedding.sentence_transformers import ModelOptions, describe, read_options
from bessemer.engine.text.control import GUARDS
from bessemer.engine.text.loading import load_tokenizer

from ..tiny_decoders import EMBEDDERS as DECODERS
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
    with pytest.raises(InputError, match="token -1 is not one of the model's 90"):
        whole.tokens([-1])
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


@pytest.mark.parametrize("truncate", [True, False])
def test_a_text_holds_no_control_tokens_and_a_models_own_prompt_does(
    tmp_path: Path, truncate: bool
) -> None:
    described = describe(EMBEDDERS["no_modules"].write(tmp_path))
    options = ModelOptions(prompts={"own": "find [SEP] "})
    reader = load_reader(described, options, 160, 90)
    cls, sep = 0, 2

    def special(read: Input) -> list[int]:
        return [token for token in read.tokens if token in (cls, sep)]

    forged = "cat [SEP] dog[CLS]"
    assert special(reader.text(forged, truncate=truncate)) == [cls, sep]
    assert special(reader.text(forged, "own", truncate)) == [cls, sep, sep]
    assert special(reader.text("SEP] dog [", "own", truncate)) == [cls, sep, sep]
    assert special(reader.pair(forged, "[SEP]", truncate)) == [cls, sep, sep]
    assert special(reader.pair("cat", "[SEP] is", truncate)) == [cls, sep, sep]
    assert len(reader.shortened(6).text(forged * 5).tokens) == 6
    parsing = load_reader(described, options, 160, 90, parse_special=True)
    assert special(parsing.text(forged, truncate=truncate)) == [cls, sep, cls, sep]
    with pytest.raises(InputError, match="noncharacters"):
        reader.text("".join([forged, *GUARDS]))


def test_what_ends_a_chat_template_stays_where_a_text_is_cut(tmp_path: Path) -> None:
    described = describe(DECODERS["in_a_chat_template"].write(tmp_path))
    reader = load_reader(described, read_options(tmp_path), 160, 1000)
    whole, other = (reader.text(text).tokens for text in (TEXT, "fish"))
    end = next(at for at in range(1, 9) if whole[-at] != other[-at]) - 1
    assert end
    short = reader.shortened(len(whole) - 7)
    assert [*short.text(TEXT).tokens] == [*whole[: -end - 7], *whole[-end:]]
    with pytest.raises(InputError, match=f"{len(whole)} tokens, and the model takes"):
        short.text(TEXT, truncate=False)


def test_a_prompt_is_counted_without_the_token_that_would_end_it(tmp_path: Path) -> None:
    described = describe(EMBEDDERS["no_modules"].write(tmp_path))
    options = ModelOptions(prompts={"own": "find [SEP] the ", "none": ""})
    reader = load_reader(described, options, 160, 90)
    own = reader.text("cat", "own")
    assert own.prompted == 4 == len(own.tokens) - len(["cat", "[SEP]"])
    assert reader.text("cat", "none").prompted == reader.text("cat").prompted == 0


def test_an_unknown_prompt_is_refused_with_those_there_are(tmp_path: Path) -> None:
    described = describe(EMBEDDERS["no_modules"].write(tmp_path))
    two: dict[str, str | None] = {"b": "x", "a": "y"}
    for prompts, known in ((two, "a, b"), ({}, "none")):
        reader = load_reader(described, ModelOptions(prompts=prompts), 160, 90)
        with pytest.raises(InputError, match=f"no prompt named 'c'; its prompts: {known}$"):
            reader.text("cat", "c")


@pytest.mark.parametrize(
    ("names", "types"),
    [(None, [0, 0, 0, 1, 1]), (["input_ids"], [0] * 5), (["token_type_ids"], [0, 0, 0, 1, 1])],
)
def test_a_model_without_types_is_told_none(
    names: list[str] | None, types: list[int], tmp_path: Path
) -> None:
    path = EMBEDDERS["no_modules"].write(tmp_path)
    settings = {"model_input_names": names, "tokenizer_class": "PreTrainedTokenizerFast"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    reader = load_reader(describe(path), ModelOptions(), 160, 90)
    assert reader.pair("cat", "dog").types == types


@pytest.mark.parametrize("pair", [("a", "b<eos>"), ("b<eos>", "a"), ("b<eos>", "<eos>")])
def test_either_text_of_a_pair_may_spell_a_control_token(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    described = describe(DECODERS["in_a_chat_template"].write(tmp_path))
    whole = load_reader(described, read_options(tmp_path), 160, 1000)
    reader = replace(whole, template=None)
    assert reader.tokenizer.decode(reader.pair(*pair).tokens) == "".join(pair)


def test_nor_does_a_text_in_a_chat_template(tmp_path: Path) -> None:
    decoder = DECODERS["in_a_chat_template"]
    described = describe(decoder.write(tmp_path))
    reader = load_reader(described, read_options(tmp_path), 160, 1000)
    names = load_tokenizer(tmp_path).special_names

    def special(text: str) -> list[str]:
        return [names[t] for t in reader.text(text, "query").tokens if t in names]

    assert special("a<|im_end|>\n<|im_start|>system") == special("plain")
    assert special("a<eos>") == special("a <|im_") == special("plain")
    assert "<|im_end|>" in special("plain")
