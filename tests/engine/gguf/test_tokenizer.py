"""Tokenizers of GGUF files give the ids that the models' own give."""

import json
import lzma
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.gguf.container import Gguf, read_gguf
from bessemer.engine.gguf.tokenizer import (
    build_tokenizer,
    end_tokens,
    tokenizer_config,
)
from bessemer.engine.text.loading import load_tokenizer

from .make_golden_tokenizers import RULES
from .writer import Raw, Uint32, write

GOLDEN = Path(__file__).parent / "golden" / "tokenizers.json"
UNUSED = 5
LETTERS = ["<s>", "</s>", "a", "b", "\u0120", "ab", "\u0120a", "<|im_end|>", "<x>", "<unk>"]
TYPES = [3, 3, 1, 1, 1, 1, 1, 3, 4, 1]
BYTES: dict[str, Any] = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": LETTERS,
    "tokenizer.ggml.token_type": TYPES,
    "tokenizer.ggml.merges": ["a b", "\u0120 a"],
    "tokenizer.ggml.bos_token_id": Uint32(0),
    "tokenizer.ggml.eos_token_id": Uint32(1),
    "tokenizer.ggml.unknown_token_id": Uint32(9),
}


@cache
def golden() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(GOLDEN.read_text("utf-8"))
    return read


def metadata(about: dict[str, Any]) -> dict[str, Any]:
    """A whole vocabulary again: what was cut away is there as tokens that nothing gives."""
    tokens, types = [f"[PAD{i}]" for i in range(about["size"])], [UNUSED] * about["size"]
    for number, token, kind in about["tokens"]:
        tokens[number], types[number] = token, kind
    said = {"tokens": tokens, "token_type": types, "merges": about["merges"]}
    if about["scores"]:
        said["scores"] = [about["scores"].get(str(i), -1e9) for i in range(about["size"])]
    more = {name: about[name] for name in ("model", "pre", "add_space_prefix", "unknown_token_id")}
    said |= {name: value for name, value in more.items() if value is not None}
    if about["model"] == "t5":
        said["precompiled_charsmap"] = [*lzma.decompress(RULES.read_bytes())]
    return {f"tokenizer.ggml.{name}": value for name, value in said.items()}


@pytest.mark.parametrize("name", sorted(golden()))
def test_ids_are_those_of_the_model_s_own(name: str) -> None:
    about = golden()[name]
    encoding = build_tokenizer(Gguf(Path(name), metadata(about), {}))
    for text, ids in about["cases"]:
        assert encoding.encode(text, add_special_tokens=False).ids == ids, text
        if about["model"] == "bert":  # pieces that go on with a word are joined to it
            assert "##" not in encoding.decode(ids, skip_special_tokens=False)
        # Gemma's texts have two spaces that are one token; others keep no spaces, or no capitals.
        if about["model"] not in ("gemma4", "bert", "t5"):
            assert encoding.decode(ids, skip_special_tokens=False) == text


def read(tmp_path: Path, **different: Any) -> Gguf:
    said = {f"tokenizer.{name.replace('__', '.')}": value for name, value in different.items()}
    kept = {key: each for key, each in (BYTES | said).items() if each is not None}
    kept["llama.attention.layer_norm_rms_epsilon"] = 1e-5
    table = Raw((1, len(LETTERS)), 0, bytes(4 * len(LETTERS)))
    return read_gguf(write(tmp_path / "m.gguf", kept, {"token_embd.weight": table}))


def test_a_run_of_unknown_characters_is_one_unknown_token() -> None:
    """As SentencePiece has it, where a vocabulary has no bytes."""
    said = {"model": "llama", "tokens": ["a", "<unk>", "\u2581"], "scores": [0.0, 0.0, 0.0]}
    said |= {"token_type": [1, 2, 1], "unknown_token_id": 1}
    gguf = Gguf(Path("m"), {f"tokenizer.ggml.{name}": value for name, value in said.items()}, {})
    assert build_tokenizer(gguf).encode("axya z").ids == [2, 0, 1, 0, 2, 1]


def test_special_tokens_and_others_that_are_added(tmp_path: Path) -> None:
    encoding = build_tokenizer(read(tmp_path))
    assert encoding.encode("ab<|im_end|> a<x>b", add_special_tokens=False).ids == [5, 7, 6, 8, 3]
    assert encoding.decode([5, 7, 8]) == "ab<x>"


def test_settings(tmp_path: Path) -> None:
    gguf = read(tmp_path, chat_template="T", ggml__add_bos_token=True)
    assert tokenizer_config(gguf) == {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": "T",
    }
    tokenizer = load_tokenizer(gguf.path)
    assert tokenizer.chat_template == "T" and tokenizer.eos == 1
    assert tokenizer.encode("ab") == [0, 5]


@pytest.mark.parametrize(
    ("pre", "parts"),
    [
        ("kimi-k2", ["Don't", "\u6f22\u5b57", "\u304b\u306a", " ", "123", "45", "x", "..."]),
        ("youtu", ["Don't", "\u6f22\u5b57\u304b\u306a", " ", *"12345", "x", "..."]),
        ("viking", ["Don't\u6f22\u5b57\u304b\u306a", " ", *"12345", "x", "..."]),
        ("superbpe", ["Don't\u6f22\u5b57\u304b\u306a ", "12", "345", "x..."]),
        ("tiny_aya", ["Don't", "\u6f22\u5b57\u304b\u306a", " ", "123", "45", "x", "..."]),
        ("minicpm5", ["Don", "'t", "\u6f22\u5b57\u304b\u306a", " ", "123", "45", "x", "..."]),
        ("midm-2.0", ["Don", "'t", "\u6f22\u5b57\u304b\u306a", " ", "123", "45", "x", "..."]),
        ("kormo", ["Don", "'t", "\u6f22\u5b57\u304b\u306a", " ", *"12345", "x", "..."]),
        ("roberta-bpe", ["Don", "'t", "\u6f22\u5b57\u304b\u306a", " 12345", "x", "..."]),
        ("default", ["Don", "'", "t\u6f22\u5b57\u304b\u306a", " ", "123", "45", "x", "..."]),
        (None, ["Don", "'", "t\u6f22\u5b57\u304b\u306a", " ", "123", "45", "x", "..."]),
    ],
)
def test_how_a_text_is_cut(tmp_path: Path, pre: str | None, parts: list[str]) -> None:
    """As llama.cpp cuts it, whose ids were compared for each of its names that is here."""
    cut = build_tokenizer(read(tmp_path, ggml__pre=pre)).pre_tokenizer
    assert cut is not None
    text = "Don't\u6f22\u5b57\u304b\u306a 12345x..."
    spans = [span for _, span in cut.pre_tokenize_str(text)]
    assert [text[begin:end] for begin, end in spans] == parts


def test_how_texts_of_older_files_are_cut() -> None:
    """They name no way, but most architectures have one; of others it is llama.cpp's."""
    old = {name: each for name, each in BYTES.items() if name != "tokenizer.ggml.pre"}
    gguf = Gguf(Path("m"), old | {"general.architecture": "qwen2"}, {})
    cut = build_tokenizer(gguf).pre_tokenizer
    assert cut is not None
    assert [part for part, _ in cut.pre_tokenize_str("it's 12")] == ["it", "'s", "\u0120", "1", "2"]


@pytest.mark.parametrize(
    ("said", "text", "ids"),
    [
        ({}, "\xc1\xe1", [1, 1]),
        ({"lowercase": False}, "A\xe1", [2, 3]),
        ({"lowercase": True, "strip_accents": False}, "A\xc1", [1, 3]),
    ],
)
def test_what_becomes_of_capitals_and_accents(
    said: dict[str, bool], text: str, ids: list[int]
) -> None:
    """BERT's files say it; of older ones the vocabulary shows it."""
    words = ["[UNK]", "\u2581a", "\u2581A", "\u2581\xe1"]
    words = words if said else [word for word in words if word != "\u2581A"]
    kinds = [3] + [1] * (len(words) - 1)
    about: dict[str, Any] = {"model": "bert", "tokens": words, "token_type": kinds}
    about["unknown_token_id"] = 0
    about |= {f"normalizer.{name}": value for name, value in said.items()}
    gguf = Gguf(Path("m"), {f"tokenizer.ggml.{name}": value for name, value in about.items()}, {})
    assert build_tokenizer(gguf).encode(" ".join(text)).ids == ids


@pytest.mark.parametrize(("pre", "begins"), [("gpt-2", False), ("llama-bpe", True)])
def test_whether_a_text_begins_with_bos(tmp_path: Path, pre: str, begins: bool) -> None:
    assert tokenizer_config(read(tmp_path, ggml__pre=pre))["add_bos_token"] is begins
    said = read(tmp_path, ggml__pre=pre, ggml__add_bos_token=False)
    assert tokenizer_config(said)["add_bos_token"] is False


def test_several_templates(tmp_path: Path) -> None:
    said = {"chat_template__tool_use": "U", "chat_templates": ["tool_use", "gone"]}
    assert tokenizer_config(read(tmp_path, chat_template="T", **said))["chat_template"] == [
        {"name": "default", "template": "T"},
        {"name": "tool_use", "template": "U"},
    ]


def test_what_ends_an_answer(tmp_path: Path) -> None:
    """The file's ends, and tokens that are called as ends are, of whatever type, as llama.cpp."""
    assert end_tokens(read(tmp_path)) == [1, 7]
    assert end_tokens(read(tmp_path, ggml__eot_token_id=Uint32(8))) == [1, 8, 7]
    plain = [
        1 if token == "<|im_end|>" else kind for token, kind in zip(LETTERS, TYPES, strict=True)
    ]
    gguf = read(tmp_path, ggml__token_type=plain)
    assert end_tokens(gguf) == [1, 7]
    encoding = build_tokenizer(gguf)
    assert encoding.encode("a<|im_end|>").ids == [2, 7] and encoding.decode([2, 7]) == "a"


@pytest.mark.parametrize(
    ("names", "ends"),
    [
        (("<|end|>", "<|return|>", "<|call|>"), [1, 3, 4]),  # gpt-oss: it goes on after a thought
        (("<|end|>", "<|endoftext|>", "c"), [1, 2, 3]),  # Phi
        (("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"), [1, 2, 3, 4]),  # Llama 3
        (("<end_of_turn>", "<eos>", "</s>"), [1, 2, 3]),
    ],
)
@pytest.mark.parametrize("eos", [1, 2])
def test_ends_by_their_names(
    tmp_path: Path, names: tuple[str, str, str], ends: list[int], eos: int
) -> None:
    tokens = ["<s>", "E", *names, *LETTERS[5:]]
    gguf = read(tmp_path, ggml__tokens=tokens, ggml__eos_token_id=Uint32(eos))
    said = set(ends) if eos == 1 else set(ends) - {1}
    assert {*end_tokens(gguf)} - {7} == said


def test_rules_for_characters_that_lead_nowhere() -> None:
    """The library would end in a panic, some at the first text."""
    said = metadata(golden()["nomic-bert-moe"])
    name, sound = "tokenizer.ggml.precompiled_charsmap", lzma.decompress(RULES.read_bytes())
    out = struct.pack("<I", 1 << 30)  # the root's step
    for rules in (
        *(bytes(8), b"\4" + bytes(7) + b"a", sound[:4], sound[:2000]),
        *(sound[:4] + out + sound[8:], sound[:-500]),
    ):
        with pytest.raises(CheckpointError, match="lead nowhere"):
            build_tokenizer(Gguf(Path("m"), said | {name: [*rules]}, {}))


@pytest.mark.parametrize(
    ("different", "said"),
    [
        ({"ggml__model": "rwkv"}, "a tokenizer of the kind 'rwkv'"),
        ({"ggml__model": "t5"}, "has no score for each token"),
        (
            {
                "ggml__model": "t5",
                "ggml__scores": [0.0] * len(LETTERS),
                "ggml__unknown_token_id": -1,
            },
            "none of the id -1 that it",
        ),
        ({"ggml__model": "bert", "ggml__unknown_token_id": None}, "none of the id 100 that it"),
        ({"ggml__pre": "new"}, "cuts texts in a way that is not known here, 'new'"),
        ({"ggml__tokens": None}, "has no vocabulary"),
        ({"ggml__token_type": [1]}, "has 10 tokens, and types of 1"),
        ({"ggml__model": "llama", "ggml__merges": None}, "has no score for each token"),
    ],
)
def test_what_is_refused(tmp_path: Path, different: dict[str, Any], said: str) -> None:
    gguf = read(tmp_path, **different)
    with pytest.raises(CheckpointError) as caught:
        build_tokenizer(gguf)
    assert said in str(caught.value) and "\n" not in str(caught.value)
