"""Detokenizers show what the tokenizers package decodes, in pieces."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from bessemer.engine.text.detokenizer import (
    AnswerDetokenizer,
    ByteDetokenizer,
    Detokenizer,
    WindowDetokenizer,
)
from bessemer.engine.text.specials import Specials
from bessemer.engine.text.tokenizer import Tokenizer

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
    steps = byte_level()
    steps.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
    assert isinstance(make_tokenizer(steps).detokenizer(), ByteDetokenizer)
    bare = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1}, "a"))
    assert make_tokenizer(bare).decode([1, 0]) == "b a"


def test_ids_beyond_the_table_are_no_text() -> None:
    table = defaultdict(bytes, {0: b"a", 1: b"b"})
    detokenizer = ByteDetokenizer(table)
    assert [*map(detokenizer.add, (1, 2, 3, 0))] == ["b", "", "", "a"]


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


def unigram() -> tokenizers.Tokenizer:
    """Build one as T5's and XLNet's: pieces with scores, and a space before every text."""
    names = ["<unk>", "\u2581Once", "\u2581upon", "\u2581a", "\u2581time", "\u2581", "o", "n"]
    encoding = tokenizers.Tokenizer(models.Unigram([(name, -1.0) for name in names], 0))
    encoding.pre_tokenizer = pre_tokenizers.Metaspace()
    encoding.decoder = decoders.Metaspace()
    encoding.add_special_tokens(["<|end|>"])
    return encoding


def text_of(stream: Detokenizer, tokens: Sequence[int]) -> str:
    return "".join([*map(stream.add, tokens), stream.flush()])


def id_list(tokenizer: Tokenizer, *names: str) -> list[int]:
    return [id_of(tokenizer, name) for name in names]


@pytest.mark.parametrize("build", [byte_level, sentencepiece, unigram])
def test_a_text_that_goes_on_keeps_its_spaces(
    build: Callable[[], tokenizers.Tokenizer],
) -> None:
    """At any place: what comes after is the rest of what the package decodes."""
    tokenizer = make_tokenizer(build())
    for text in ("Hello Hello Hel", " Once upon a time o n"):
        tokens = tokenizer.encode(text)
        for at in range(1, len(tokens)):
            before, after = tokens[:at], tokens[at:]
            whole = tokenizer.encoding.decode(tokens)
            assert tokenizer.decode(before) + text_of(tokenizer.detokenizer(before), after) == whole


@pytest.mark.parametrize("build", [sentencepiece, unigram])
def test_a_text_goes_on_across_special_tokens_and_begins_after_nothing_else(
    build: Callable[[], tokenizers.Tokenizer],
) -> None:
    tokenizer = make_tokenizer(build())
    word = tokenizer.encode("Hello" if build is sentencepiece else "Once")[0]
    end = id_of(tokenizer, "<|end|>")
    shown = tokenizer.detokenizer([word, *[end] * 20]).add(word)
    assert shown.startswith(" ")
    assert not tokenizer.detokenizer([end] * 20).add(word).startswith(" ")
    assert not tokenizer.detokenizer([]).add(word).startswith(" ")


@pytest.mark.parametrize("build", [byte_level, sentencepiece])
def test_half_a_character_before_is_made_whole(
    build: Callable[[], tokenizers.Tokenizer],
) -> None:
    tokenizer = make_tokenizer(build())
    tokens = tokenizer.encode("a👍b")
    halves = range(1, len(tokens))
    pieces = [text_of(tokenizer.detokenizer(tokens[:at]), tokens[at:]) for at in halves]
    assert {"a👍b", "👍b", "b"} >= set(pieces) and pieces.count("👍b") > 1


def fallback_ids(tokenizer: Tokenizer, raw: bytes) -> list[int]:
    return id_list(tokenizer, *(f"<0x{byte:02X}>" for byte in raw))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("東京".encode(), "東京"),
        (b"\x80" * 3, "\ufffd" * 3),
        (b"\x80" + "東".encode(), "\ufffd東"),
        ("東".encode() + b"\xe6\x9d", "東\ufffd"),
        (b"\xf0\x9f\x91", "\ufffd"),
    ],
)
def test_bytes_are_utf8_whatever_is_beside_them(raw: bytes, text: str) -> None:
    tokenizer = make_tokenizer(sentencepiece())
    word = tokenizer.encode("Hello")[0]
    tokens = [word, *fallback_ids(tokenizer, raw), word]
    shown = text_of(tokenizer.detokenizer(), tokens)
    assert shown == f"{tokenizer.decode([word])}{text} {tokenizer.decode([word])}"


class Counting:
    """An encoding that counts the tokens that it is asked to decode."""

    def __init__(self, encoding: tokenizers.Tokenizer) -> None:
        self._encoding = encoding
        self.most = 0

    def decode(self, tokens: Sequence[int]) -> str:
        self.most = max(self.most, len(tokens))
        return str(self._encoding.decode(tokens))


@pytest.mark.parametrize("build", [byte_level, sentencepiece, unigram])
def test_what_never_becomes_a_character_costs_no_more_with_every_token(
    build: Callable[[], tokenizers.Tokenizer],
) -> None:
    encoding = build()
    tokenizer = make_tokenizer(encoding)
    counting = Counting(encoding)
    stream = WindowDetokenizer(counting, tokenizer._fallback)  # type: ignore[arg-type]
    half = {byte_level: "ð", sentencepiece: "<0xF0>", unigram: "<unk>"}[build]
    for token in [*id_list(tokenizer, half, "<|end|>") * 50, *[10**6] * 50]:
        stream.add(token)
    stream.flush()
    assert counting.most <= 9


def test_special_tokens_are_shown_as_the_answer_holds_them() -> None:
    tokenizer = make_tokenizer(byte_level())
    end, half, letter = id_list(tokenizer, "<|end|>", "ð", "a")
    names = tokenizer.special_names
    for specials, shown in (
        (Specials(names), ""),
        (Specials(names, shown=True), "<|end|>"),
        (Specials(names, ["<|end|>"]), "\ud800"),
    ):
        stream = AnswerDetokenizer(tokenizer.detokenizer(), specials)
        assert [stream.add(letter), stream.add(end)] == ["a", shown]
        assert stream.add(end, hidden=True) == ("" if shown == "<|end|>" else shown)
        assert stream.add(letter, hidden=True) == ""
        # A character that a special token parts is none.
        assert stream.add(half) + stream.add(end) == (f"\ufffd{shown}" if shown else "")


@pytest.mark.parametrize("build", [byte_level, sentencepiece])
def test_a_character_in_parts_is_whole_after_the_last(
    build: Callable[[], tokenizers.Tokenizer],
) -> None:
    tokenizer = make_tokenizer(build())
    stream = AnswerDetokenizer(tokenizer.detokenizer(), Specials({}))
    before, parts = tokenizer.encode_within("Hello"), tokenizer.encode_within("🦊")
    assert len(parts) >= 3, "its bytes are tokens"
    whole = []
    for token in [*before, *parts]:
        stream.add(token)
        whole.append(stream.whole)
    assert whole == [*[True] * len(before), *[False] * (len(parts) - 1), True]
