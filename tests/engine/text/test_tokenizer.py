"""A tokenizer's ids, bytes and bounds."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import tokenizers

from bessemer.engine.request import Refusal, Request, Thought
from bessemer.engine.text.tokenizer import PIECE, Tokenizer

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


@pytest.mark.parametrize("build", [byte_level, sentencepiece])
def test_ids_without_a_token_are_no_text(build: Callable[[], tokenizers.Tokenizer]) -> None:
    tokenizer = make_tokenizer(build())
    size = tokenizer.encoding.get_vocab_size()
    for padded in (size, size + 100, 2**31 - 1):
        assert tokenizer.token_bytes(padded) == b""
        hello = tokenizer.encode("Hello")
        for tokens in ([padded, *hello], [*hello, padded], [hello[0], padded, *hello[1:]]):
            assert tokenizer.decode(tokens) == "Hello"


def test_a_decoder_with_another_step_is_not_one_of_bytes() -> None:
    encoding = byte_level()
    steps = [tokenizers.decoders.ByteLevel(), tokenizers.decoders.Replace("l", "L")]
    encoding.decoder = tokenizers.decoders.Sequence(steps)
    tokenizer = make_tokenizer(encoding)
    assert tokenizer.decode(tokenizer.encode("Hello")) == "HeLLo"


def test_ids_may_have_holes() -> None:
    names = {"a": 0, "b": 7, "\u0120c": 9}
    encoding = tokenizers.Tokenizer(tokenizers.models.BPE(names, []))
    encoding.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = make_tokenizer(encoding)
    assert tokenizer.longest == 2
    assert [tokenizer.token_bytes(each) for each in (0, 3, 7, 9, 10)] == [
        b"a",
        b"",
        b"b",
        b" c",
        b"",
    ]
    assert tokenizer.decode([0, 3, 7, 9]) == "ab c"


def test_bytes_are_kept_of_tokens_that_were_met_alone() -> None:
    tokenizer = make_tokenizer(byte_level())
    tokens = tokenizer.encode("Hello Hello")
    tokenizer.decode([*tokens, *range(10**6, 10**6 + 500)])
    assert tokenizer._bytes.keys() == {*tokens}


def test_names_like_bytes_are_bytes_only_as_sentencepiece_writes_them() -> None:
    encoding = sentencepiece()
    encoding.add_tokens([tokenizers.AddedToken("<0xzz>", normalized=False)])
    tokenizer = make_tokenizer(encoding)
    assert tokenizer.token_bytes(id_of(tokenizer, "<0xzz>")) == b"<0xzz>"
    assert tokenizer.token_bytes(id_of(tokenizer, "<0xFF>")) == b"\xff"


def test_names_of_bytes_are_names_where_no_step_makes_bytes_of_them() -> None:
    encoding = tokenizers.Tokenizer(tokenizers.models.BPE({"<0x41>": 0, "b": 1}, []))
    tokenizer = make_tokenizer(encoding)
    assert [tokenizer.token_bytes(0), tokenizer.token_bytes(1)] == [b"<0x41>", b"b"]


def test_a_token_that_nobody_names_has_no_id() -> None:
    tokenizer = Tokenizer(byte_level(), {}, None)
    assert tokenizer.eos is None and tokenizer.id_of(None) is None
    assert tokenizer.id_of("<|end|>") == id_of(tokenizer, "<|end|>")


def test_the_longest_token_bounds_a_text_from_below() -> None:
    tokenizer = make_tokenizer(byte_level())
    for text in TEXTS:
        assert len(tokenizer.encode(text)) * tokenizer.longest >= len(text)


def test_a_text_of_far_too_many_tokens_is_refused_before_all_of_it_is_encoded() -> None:
    tokenizer = Tokenizer(byte_level(), {}, None)
    assert len(tokenizer.encode("ab", most=2)) <= 2
    for text in ("a b c ", "a b c " * 100_000):
        with pytest.raises(Refusal, match="more than 2 tokens") as caught:
            tokenizer.encode(text, most=2)
        assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


class Counted:
    """An encoding that notes the lengths of the texts that it is given."""

    def __init__(self, encoding: tokenizers.Tokenizer) -> None:
        self.encoding = encoding
        self.lengths: list[int] = []

    def encode_batch_fast(self, texts: Sequence[str], **options: Any) -> list[tokenizers.Encoding]:
        self.lengths += map(len, texts)
        return self.encoding.encode_batch_fast(texts, **options)


def test_no_more_than_a_piece_of_a_hopeless_text_is_encoded() -> None:
    counted: Any = Counted(byte_level())
    tokenizer = Tokenizer(counted, {}, None)
    for text in ("Hello" * 5)[:24], "Hello" * 5:
        assert len(tokenizer.encode(text, most=12)) <= 12
    assert counted.lengths == [24, 25, 25]  # twice where it has more than two letters a token
    with pytest.raises(Refusal, match="more than 12 tokens"):
        tokenizer.encode("z" * 3 * PIECE, most=12)
    assert counted.lengths[3:] == [PIECE]


def test_a_text_goes_on_after_what_is_shown_of_the_tokens_before() -> None:
    tokenizer = make_tokenizer(sentencepiece())
    word, end = tokenizer.encode("Hello")[0], id_of(tokenizer, "<|end|>")
    assert tokenizer.detokenizer([word, end]).add(word).startswith(" ")
    assert not tokenizer.detokenizer([end]).add(word).startswith(" ")


def test_a_stop_string_counts_in_thoughts_only_where_it_is_to() -> None:
    tokenizer = make_tokenizer(byte_level())
    thought = Thought("<think>", "</think>", place="thought")
    for answer, inside, stop in (
        ("Hm. stop", True, "stop"),
        ("Hm. stop", False, None),
        ("Hm.</think>stop", False, "stop"),
    ):
        text = tokenizer.answer_text(
            Request(
                id=1,
                tokens=[1],
                max_tokens=99,
                stop=["stop"],
                thought=thought,
                stop_in_reasoning=inside,
            )
        )
        for token in tokenizer.encode(answer):
            text.add(token)
        assert text.stop == stop


@pytest.mark.parametrize("build", [byte_level, sentencepiece])
@pytest.mark.parametrize("text", ["\n<|end|>\n\n", "<|end|>", "Hello", "\n"])
def test_a_text_within_another_has_no_space_before_it(
    build: Callable[[], tokenizers.Tokenizer], text: str
) -> None:
    tokenizer = make_tokenizer(build())
    ids, end = tokenizer.encode_within(text), id_of(tokenizer, "<|end|>")
    assert ids.count(end) == text.count("<|end|>")
    said = "".join(tokenizer.special_names.get(i) or tokenizer.token_bytes(i).decode() for i in ids)
    assert said == text
