"""What a dialect cannot say: every setting of an answer has its row."""

from dataclasses import fields
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, GenerationOptions
from bessemer.translate.upstream.losses import OPTIONS, OWN, USUAL, Losses, check

ASKING: dict[str, Any] = {
    "min_tokens": 1,
    "ignore_eos": True,
    "top_k": 4,
    "min_p": 0.1,
    "seed": 0,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "logit_bias": {1: 2.0},
    "stop": ("a",),
    "stop_token_ids": (1,),
    "stop_in_reasoning": True,
    "include_stop": True,
    "skip_special_tokens": False,
    "allowed_token_ids": (1,),
    "bad_words": ("a",),
    "n": 2,
    "best": object(),
    "logprobs": 0,
    "prompt_logprobs": 0,
}


def test_every_setting_is_said_refused_or_this_server_s_own() -> None:
    assert {each.name for each in fields(GenerationOptions)} == {*OPTIONS, *USUAL, *OWN}
    assert ASKING.keys() == OPTIONS.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_setting_that_is_not_said_is_refused_by_its_field(name: str) -> None:
    chat = Chat("m", (), GenerationOptions(**{name: ASKING[name]}))
    check(chat, USUAL | {name}, Losses("Theirs", False))
    check(chat, USUAL, Losses("Theirs", True))
    with pytest.raises(Refusal) as caught:
        check(chat, USUAL, Losses("Theirs", False))
    fields = {"include_stop": "include_stop_str_in_output", "best": "best_of"}
    assert caught.value.field == fields.get(name, name)
    assert caught.value.message.startswith("Theirs cannot be asked for ")


def test_what_asks_for_nothing_is_not_refused() -> None:
    neutral = GenerationOptions(
        top_k=0, min_p=0.0, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0
    )
    for options in (GenerationOptions(), neutral):
        check(Chat("m", (), options), USUAL, Losses("Theirs", False))
