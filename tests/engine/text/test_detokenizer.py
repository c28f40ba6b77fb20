"""Detokenizers show what the tokenizers package decodes, in pieces."""

import pytest

from bessemer.engine.text.detokenizer import ByteDetokenizer, WindowDetokenizer

from .tiny_tokenizers import TEXTS, byte_level, id_of, make_tokenizer, sentencepiece


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
