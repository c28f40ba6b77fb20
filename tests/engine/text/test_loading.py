"""Tokenizers and templates are read from what checkpoints hold."""

import json
from pathlib import Path

import msgspec
import pytest

from bessemer.engine.text.loading import load_tokenizer
from bessemer.engine.text.tokenizer import TokenizerError

from ..gguf.writer import write
from .tiny_tokenizers import byte_level


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
    (tmp_path / "chat_template.jinja").write_bytes(b"Fran\xe7ais")
    with pytest.raises(
        TokenizerError, match=r"chat_template\.jinja cannot be read \(it is not UTF-8"
    ):
        load_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (tmp_path / name).write_text('{"half')
        with pytest.raises(TokenizerError, match=name):
            load_tokenizer(tmp_path)


def test_a_flaw_of_a_gguf_file_is_one_of_a_tokenizer(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {"general.architecture": "llama"})
    with pytest.raises(TokenizerError, match=r"m\.gguf has a tokenizer of the kind None, and"):
        load_tokenizer(path, config={})


def test_what_the_last_user_of_a_tokenizer_had_set_is_undone(tmp_path: Path) -> None:
    encoding = byte_level()
    plain = encoding.encode("Hello, world!").ids
    encoding.enable_padding(length=100, pad_id=0, pad_token="<|end|>")
    encoding.enable_truncation(2, direction="left")
    encoding.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert len(plain) > 2 and tokenizer.encode("Hello, world!") == plain
    assert tokenizer.special_tokens == {"pad_token": "<|end|>"}
    assert tokenizer.settings == {"truncation_side": "left"}
