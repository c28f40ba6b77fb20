"""Tokenizers and detokenizers against the tokenizers package itself."""

import json
from pathlib import Path

import msgspec
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from bessemer.engine.text import ByteDetokenizer, WindowDetokenizer
from bessemer.engine.tokenizer import Tokenizer, TokenizerError, load_tokenizer

TEXTS = [
    "Hello, world! How are you?",
    "naïve café - Zürich, 東京, Ελλάδα",
    "emoji 👩‍👩‍👧‍👦 and 🇨🇭 and 👍🏽 done",
    "  leading and   inner   spaces \n\ttabs\n",
    "mixed <|end|> markers <|end|>",
    "null \x00 byte and \ufffd itself",
]


def byte_level() -> tokenizers.Tokenizer:
    encoding = tokenizers.Tokenizer(models.BPE())
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoding.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    encoding.train_from_iterator(TEXTS * 3, trainer)
    encoding.add_tokens(["<added word>"])
    return encoding


def sentencepiece() -> tokenizers.Tokenizer:
    """Build one as Llama 2's and Mistral's: spaces as U+2581, bytes for unknown characters."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = sorted({c for c in "".join(TEXTS[:2]).replace(" ", "\u2581") if ord(c) < 0x3000})
    words = ["\u2581H", "el", "\u2581Hel", "lo"]
    vocabulary = {name: i for i, name in enumerate(["<unk>", *bytes_, *letters, *words])}
    merges = [("\u2581", "H"), ("e", "l"), ("\u2581H", "el"), ("l", "o")]
    encoding = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    encoding.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    encoding.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    encoding.add_special_tokens(["<|end|>"])
    return encoding


def make_tokenizer(encoding: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(encoding, {}, None)


def id_of(tokenizer: Tokenizer, name: str) -> int:
    out = tokenizer.id_of(name)
    assert out is not None
    return out


@pytest.mark.parametrize("build", [byte_level, sentencepiece])
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_add_up_to_what_the_package_decodes(build, text: str) -> None:  # type: ignore[no-untyped-def]
    tokenizer = make_tokenizer(build())
    tokens = tokenizer.encode(text)
    stream = tokenizer.detokenizer()
    pieces = [*map(stream.add, tokens), stream.flush()]
    assert "".join(pieces) == tokenizer.encoding.decode(tokens) == tokenizer.decode(tokens)
    assert all("\ufffd" not in piece for piece in pieces if "\ufffd" not in text)


def test_each_vocabulary_gets_its_own_detokenizer() -> None:
    assert isinstance(make_tokenizer(byte_level()).detokenizer(), ByteDetokenizer)
    assert isinstance(make_tokenizer(sentencepiece()).detokenizer(), WindowDetokenizer)


def test_the_two_detokenizers_agree_on_broken_utf8() -> None:
    tokenizer = make_tokenizer(byte_level())
    broken = [id_of(tokenizer, name) for name in ("ð", "Ł", "a", "â", "ļ", "ð", "b")]
    fast, slow = ByteDetokenizer(tokenizer._bytes), WindowDetokenizer(tokenizer.encoding)
    texts = ["".join([*map(each.add, broken), each.flush()]) for each in (fast, slow)]
    assert texts[0] == texts[1] == tokenizer.encoding.decode(broken)


def test_an_answer_cut_in_mid_character_shows_a_replacement_at_the_end() -> None:
    for build in (byte_level, sentencepiece):
        tokenizer = make_tokenizer(build())
        tokens = tokenizer.encode("a👍")[:-1]
        assert tokenizer.decode(tokens).endswith("\ufffd")


def test_token_bytes_are_exact() -> None:
    for build in (byte_level, sentencepiece):
        tokenizer = make_tokenizer(build())
        text = "Hello, 東 👍"
        joined = b"".join(map(tokenizer.token_bytes, tokenizer.encode(text)))
        assert joined.strip() == text.encode()
    tokenizer = make_tokenizer(byte_level())
    assert tokenizer.token_bytes(id_of(tokenizer, "<|end|>")) == b"<|end|>"
    assert tokenizer.token_bytes(id_of(tokenizer, "<added word>")) == b"<added word>"


def test_special_tokens_are_no_text_and_unknown_ids_do_no_harm() -> None:
    tokenizer = make_tokenizer(byte_level())
    end = id_of(tokenizer, "<|end|>")
    assert tokenizer.decode([*tokenizer.encode("a"), end, *tokenizer.encode("b"), 10**6]) == "ab"


def test_load_reads_what_checkpoints_hold(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    byte_level().save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).chat_template is None
    settings = {"bos_token": {"content": "<s>"}, "eos_token": "<|end|>", "chat_template": "old"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "<|end|>"}
    assert (tokenizer.eos, tokenizer.chat_template) == (tokenizer.id_of("<|end|>"), "old")
    (tmp_path / "chat_template.json").write_text('{"chat_template": "beside"}')
    assert load_tokenizer(tmp_path).chat_template == "old"
    (tmp_path / "chat_template.jinja").write_text("neu: ü", encoding="utf-8")
    assert load_tokenizer(tmp_path).chat_template == "neu: ü"
    more = tmp_path / "additional_chat_templates"
    more.mkdir()
    (more / "rag.jinja").write_text("found")
    out = load_tokenizer(tmp_path).chat_template
    assert msgspec.to_builtins(out) == [
        {"name": "default", "template": "neu: ü"},
        {"name": "rag", "template": "found"},
    ]
    (more / "rag.jinja").unlink()
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert load_tokenizer(tmp_path).chat_template == "beside"
    older = {"eos_token": {"content": "<|end|>"}}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(older))
    assert load_tokenizer(tmp_path).eos == tokenizer.id_of("<|end|>")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": [{"name": 3}]}')
    with pytest.raises(TokenizerError, match="chat_template makes no sense"):
        load_tokenizer(tmp_path)
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (tmp_path / name).write_text('{"half')
        with pytest.raises(TokenizerError, match=name):
            load_tokenizer(tmp_path)


def test_the_longest_token_bounds_a_text_from_below() -> None:
    tokenizer = make_tokenizer(byte_level())
    for text in TEXTS:
        assert len(tokenizer.encode(text)) * tokenizer.longest >= len(text)
