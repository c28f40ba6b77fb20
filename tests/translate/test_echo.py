"""A prompt's echo: its pieces make its text, and each stands where it says."""

from collections.abc import Callable

import pytest
import tokenizers

from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.translate.chat import TokenText
from bessemer.translate.echo import Echo
from tests.engine.text.tiny_tokenizers import byte_level, id_of, make_tokenizer, sentencepiece


def echoed(tokenizer: Tokenizer, text: str, tokens: list[int]) -> tuple[list[str], list[int]]:
    names, stream = tokenizer.special_names, tokenizer.detokenizer()
    echo = Echo(0, text, len(tokens), stream, names)
    deltas = [echo.add(token, TokenText("", b"", None)) for token in tokens]
    return [d.text for d in deltas], [d.tokens[0].offset for d in deltas]


@pytest.mark.parametrize("build", [byte_level, sentencepiece])
@pytest.mark.parametrize("text", ["Hello, Hello", " two  spaces ", "naïve 東京 👍!"])
def test_pieces_make_the_text(build: Callable[[], tokenizers.Tokenizer], text: str) -> None:
    tokenizer = make_tokenizer(build())
    pieces, offsets = echoed(tokenizer, text, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert offsets == [len("".join(pieces[:at])) for at in range(len(pieces))]


def test_special_tokens_are_pieces_where_the_text_has_them() -> None:
    tokenizer = make_tokenizer(byte_level())
    end = id_of(tokenizer, "<|end|>")
    (a,), (b,) = map(tokenizer.encode, "ab")
    assert echoed(tokenizer, "a<|end|>b", [end, a, end, b]) == (
        ["", "a", "<|end|>", "b"],
        [0, 0, 1, 8],
    )
    assert echoed(tokenizer, "ab", [end, a, end, b, end]) == (
        ["", "a", "", "b", ""],
        [0, 0, 1, 1, 2],
    )


def test_a_text_that_its_tokens_do_not_spell_is_out_at_the_end() -> None:
    tokenizer = make_tokenizer(byte_level())
    tokens = tokenizer.encode("fi")
    assert "".join(echoed(tokenizer, "ﬁ, that is a ligature", tokens)[0]) == "ﬁ, that is a ligature"
    assert "".join(echoed(tokenizer, "", tokens)[0]) == ""


def test_a_space_that_the_tokenizer_adds_after_a_special_token_is_no_piece() -> None:
    tokenizer = make_tokenizer(sentencepiece())
    for text in ("an<|end|>na<|end|>n", "an<|end|> na", "<|end|>  n", "an<|end|>n\u2581a"):
        tokens = tokenizer.encode(text)
        pieces, offsets = echoed(tokenizer, text, tokens)
        assert "".join(pieces) == text
        names = [tokenizer.token_bytes(token).decode() for token in tokens]
        shown = [piece.replace("\u2581", " ") for piece in pieces]
        assert all(p in (n, n[1:]) for p, n in zip(shown, names, strict=True))
        assert offsets == [len("".join(pieces[:at])) for at in range(len(pieces))]
