"""A tokenizer reads texts as transformers' does, whatever its class and its files say."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers
from tokenizers.trainers import BpeTrainer

from bessemer.engine.embedding.inputs import truncating
from bessemer.engine.text.loading import load_tokenizer

from .matrix_tokenizers import CUT, GOLDEN, KINDS, LONG, PAIR, TEXTS, build, write
from .tiny_tokenizers import byte_level

BOOK = json.loads(GOLDEN.read_text("utf-8"))
ROWS: list[list[int]] = BOOK["rows"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_settings_give_the_ids_of_transformers(kind: str, tmp_path: Path) -> None:
    cells = [cell for cell in BOOK["cells"] if cell["kind"] == kind]
    assert len(cells) > 30
    for at, cell in enumerate(cells):
        directory = tmp_path / str(at)
        directory.mkdir()
        write(cell, directory)
        tokenizer = load_tokenizer(directory)
        assert tokenizer.special_tokens == cell["special_tokens"], cell
        assert sorted(tokenizer.special_names) == ROWS[cell["hidden"]], cell
        assert tokenizer.encoding.get_vocab_size() == cell["size"], cell
        for text, full, bare in zip(TEXTS, cell["with"], cell["without"], strict=True):
            assert tokenizer.encode(text) == ROWS[full], (text, cell)
            assert tokenizer.encode(text, special=False) == ROWS[bare], (text, cell)
        assert tokenizer.encoding.encode(*PAIR).ids == ROWS[cell["pair"]], cell
        short = truncating(tokenizer.encoding, CUT)
        cut = [short.encode(LONG).ids, short.encode(PAIR[0], LONG).ids]
        assert cut == [ROWS[row] for row in cell["cut"]], cell


def _load(directory: Path, kind: str, model_type: str, **settings: Any) -> list[int]:
    build(kind, "none", "none").save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(directory).encode("  the")


def test_a_class_counts_as_in_transformers_table(tmp_path: Path) -> None:
    as_it_is = _load(tmp_path, "prepended", "llama")
    rebuilt = _load(tmp_path, "prepended", "llama", tokenizer_class="LlamaTokenizer")
    assert rebuilt != as_it_is
    for model_type in ("mistral", "phi3", "granite"):  # whose checkpoints name what they are not
        named = _load(tmp_path, "prepended", model_type, tokenizer_class="LlamaTokenizer")
        assert named == as_it_is
    # Where the vocabulary is of another kind than the class, tokenizer.json says it all, as
    # SentencePiece does that made it: transformers 5.24 makes a BPE without merges of a unigram.
    for kind in ("unigram", "wordpiece"):
        plain = _load(tmp_path, kind, "llama")
        assert _load(tmp_path, kind, "llama", tokenizer_class="LlamaTokenizer") == plain
    (tmp_path / "config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    build("prepended", "none", "none").save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("  the") != as_it_is  # a legacy of config.json's


@pytest.mark.parametrize(
    ("kind", "model_type", "name"),
    [
        ("wordpiece", "distilbert", "BertTokenizer"),
        ("wordpiece", "mpnet", "MPNetTokenizer"),
        ("unigram", "gte", "XLMRobertaTokenizer"),
        ("unigram", "camembert", "CamembertTokenizer"),
        ("replaced", "gemma3n_text", "GemmaTokenizer"),
        ("byte_level", "cohere2", "CohereTokenizer"),
        ("byte_level", "starcoder2", "GPT2Tokenizer"),
        ("byte_level", "mamba2", "GPTNeoXTokenizer"),
        ("byte_level", "qwen3_next", "Qwen2Tokenizer"),
        ("byte_level", "qwen3_5_moe_text", "Qwen3_5Tokenizer"),
        ("byte_level", "roberta", "RobertaTokenizer"),
    ],
)
def test_a_model_type_has_the_class_of_transformers_table(
    kind: str, model_type: str, name: str, tmp_path: Path
) -> None:
    def loaded(model_type: str, **settings: str) -> str:
        _load(tmp_path, kind, model_type, **settings)
        return load_tokenizer(tmp_path).encoding.to_str()

    assert loaded(model_type) == loaded("llama", tokenizer_class=name) != loaded("llama")


def test_digits_stay_apart_where_the_file_says_so(tmp_path: Path) -> None:
    encoding = byte_level()
    digits = pre_tokenizers.Digits(individual_digits=True)
    encoding.pre_tokenizer = pre_tokenizers.Sequence([digits, encoding.pre_tokenizer])
    encoding.train_from_iterator(["a\n\n1 b\n\n  2 c 12 "] * 9, BpeTrainer(show_progress=False))
    encoding.save(str(tmp_path / "tokenizer.json"))
    plain = load_tokenizer(tmp_path)
    settings = {"tokenizer_class": "GPT2Tokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    for text in ("a\n\n1 b", "c\n\n  2"):
        assert load_tokenizer(tmp_path).encode(text) == plain.encode(text)


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "Qwen3_5Tokenizer"])
def test_qwen_s_own_expression_alone_cuts_words(name: str, tmp_path: Path) -> None:
    """GPT-2's would part an opening bracket, line ends and 'S from what stands before them."""
    _load(tmp_path, "byte_level", "llama", tokenizer_class=name)
    cut = load_tokenizer(tmp_path).encoding.pre_tokenizer
    assert cut is not None
    pieces = [piece for piece, _ in cut.pre_tokenize_str("(word...\n\n1 IT'S")]
    assert pieces == ["(word", "...\u010a\u010a", "1", "\u0120IT", "'S"]
