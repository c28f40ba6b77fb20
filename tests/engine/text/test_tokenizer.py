"""A tokenizer's ids, bytes and bounds."""

from .tiny_tokenizers import TEXTS, byte_level, id_of, make_tokenizer, sentencepiece


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


def test_the_longest_token_bounds_a_text_from_below() -> None:
    tokenizer = make_tokenizer(byte_level())
    for text in TEXTS:
        assert len(tokenizer.encode(text)) * tokenizer.longest >= len(text)
