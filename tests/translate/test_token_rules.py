"""What a request says of single tokens, over both common kinds of tokenizers."""

from typing import Any

import pytest
from tokenizers import Tokenizer as Encoding
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace, WhitespaceSplit

from bessemer.engine.request import Refusal
from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.translate.chat import GenerationOptions
from bessemer.translate.token_rules import token_rules
from tests.engine.text.tiny_tokenizers import byte_level, make_tokenizer, sentencepiece

NAMES = ["Hi", "▁Hi", "yo", "▁yo", "▁", "x"]


def word_level(split: Any) -> Tokenizer:
    encoding = Encoding(WordLevel({name: i for i, name in enumerate(NAMES)}, unk_token="x"))
    encoding.pre_tokenizer = split
    return make_tokenizer(encoding)


METASPACE = word_level(Metaspace(prepend_scheme="never"))


def bad_words(tokenizer: Tokenizer, *words: str, vocabulary: int = 10**6) -> list[list[int]]:
    return token_rules(GenerationOptions(bad_words=words), tokenizer, vocabulary).bad_words


def test_a_word_is_banned_at_the_beginning_and_after_a_space() -> None:
    assert bad_words(METASPACE, "Hi", " yo") == [[0], [1], [2], [3]]


def test_a_spelling_that_is_no_other_counts_once() -> None:
    assert bad_words(word_level(WhitespaceSplit()), "Hi") == [[0]]  # the space is lost
    tokenizer = make_tokenizer(byte_level())
    (first, *_) = bad_words(tokenizer, "zq")
    assert first == tokenizer.encode("zq", special=False)
    assert bad_words(tokenizer, "zq") == [first]  # as many ids there are not with a space
    llama = make_tokenizer(sentencepiece())
    assert llama.encode("Hello", special=False) in bad_words(llama, "Hello")


def test_a_space_is_a_word_too() -> None:
    assert bad_words(METASPACE, " ") == [[4]]


def test_what_the_model_does_not_have_needs_no_ban() -> None:
    assert bad_words(METASPACE, "Hi", "yo", vocabulary=3) == [[0], [1], [2]]


@pytest.mark.parametrize("field", ["logit_bias", "allowed_token_ids"])
def test_an_id_that_the_model_does_not_have_is_refused_by_its_number(field: str) -> None:
    def rules(token: int) -> Any:
        value: Any = {3: 1.0, token: 1.0} if field == "logit_bias" else (3, token)
        return token_rules(GenerationOptions(**{field: value}), METASPACE, 512)

    assert rules(511).allowed == ((3, 511) if field == "allowed_token_ids" else None)
    for token in (512, 2**31, -1):
        with pytest.raises(Refusal) as caught:
            rules(token)
        assert (caught.value.status, caught.value.field) == (400, field)
        assert f"{field} names {token}," in caught.value.message
        assert caught.value.message.endswith("ids go from 0 to 511.")


def test_to_stop_at_an_id_that_never_comes_is_no_mistake() -> None:
    options = GenerationOptions(stop_token_ids=(3, 512))
    assert token_rules(options, METASPACE, 512).stops == [3]
