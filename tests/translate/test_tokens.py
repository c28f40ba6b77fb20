"""Tests of requests for tokens, in llama.cpp's and in vLLM's words."""

import json
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.tokens import (
    MAX_TOKENS,
    Tokenize,
    Tokens,
    decode_detokenize,
    decode_tokenize,
    encode_tokenize,
)


def decoded(**fields: Any) -> Tokenize:
    return decode_tokenize(json.dumps({"model": "m"} | fields).encode())


def test_a_text_in_both_words() -> None:
    assert decoded(content="a") == Tokenize("m", "a")
    assert decoded(content="a", add_special=True, parse_special=False, with_pieces=True) == (
        Tokenize("m", "a", add_special=True, parse_special=False, pieces=True)
    )
    assert decoded(prompt="a") == Tokenize("m", "a", add_special=True, counted=True)
    assert decoded(prompt="a", add_special_tokens=False, return_token_strs=True) == (
        Tokenize("m", "a", names=True, counted=True)
    )
    chat = decoded(messages=[{"role": "user", "content": "a"}], chat_template_kwargs={"x": 1}).chat
    assert chat is not None and chat.template == {"x": 1} and chat.messages[0].text == "a"


def test_answers() -> None:
    tokens = Tokens((5, 6), (b"a", b"\xc3"), ("A", "B"))

    def answer(**fields: Any) -> Any:
        return json.loads(encode_tokenize(decoded(**fields), tokens, 99))

    assert answer(content="a") == {"tokens": [5, 6]}
    pieces = [{"id": 5, "piece": "a"}, {"id": 6, "piece": [0xC3]}]
    assert answer(content="a", with_pieces=True) == {"tokens": pieces}
    counted = {"count": 2, "max_model_len": 99, "tokens": [5, 6]}
    assert answer(prompt="a") == counted
    assert answer(prompt="a", return_token_strs=True) == counted | {"token_strs": ["A", "B"]}


def test_what_is_too_much_or_missing_is_refused() -> None:
    for body in (b"{}", b'{"tokens": [%b]}' % b",".join([b"1"] * (MAX_TOKENS + 1))):
        with pytest.raises(Refusal):
            decode_detokenize(body)
    with pytest.raises(Refusal) as caught:
        decoded()
    assert caught.value.field == "content"
