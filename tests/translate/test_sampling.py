"""The range of every sampling field, at its edges, through the chat decoder."""

import json
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import GenerationOptions
from bessemer.translate.openai_chat import decode_request


def options(**fields: Any) -> GenerationOptions:
    messages = [{"role": "user", "content": "Hi"}]
    return decode_request(
        json.dumps({"model": "m", "messages": messages, **fields}).encode()
    ).options


def refusal(**fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        options(**fields)
    assert caught.value.status == 400
    return caught.value


EDGES: dict[str, tuple[list[Any], list[Any]]] = {
    "temperature": ([0, 0.7, 100], [-0.01, 100.1, "1", True]),
    "top_p": ([0.001, 1], [1.01, -1]),
    "top_k": ([1, 50], [-2, 1.5, 2**31]),
    "min_p": ([0, 1], [-0.1, 1.1]),
    "repetition_penalty": ([0.01, 1, 2], [0, -1]),
    "presence_penalty": ([-2, 0, 2], [-2.1, 2.1]),
    "frequency_penalty": ([-2, 0, 2], [-2.1, 2.1]),
    "max_tokens": ([1, 2**31 - 1], [0, -1, 2**31, "5", 1.5]),
    "min_tokens": ([0, 5], [-1, 2**31]),
    "n": ([1, 64], [0, 65]),
    "seed": ([0, 2**64 - 1], [2**64, -(2**63) - 1, "1", 10**30]),
    "ignore_eos": ([True, False], [1, "true"]),
    "stream": ([True, False], [1]),
    "logit_bias": (
        [{}],
        [{"x": 1}, {"1": 101}, {"1": -101}, {"1": None}, [1], {"1.5": 1}],
    ),
    "stop": ([], ["", [""], ["a"] * 65, 5, [5], ["a", None]]),
    "stop_token_ids": ([], [[-1], ["a"], [2**31], 5]),
    "stream_options": ([], [5, {"include_usage": "yes"}]),
    "top_logprobs": ([], [-1, 21, 5]),
}
GOOD = [(name, value) for name, (good, _) in EDGES.items() for value in good]
BAD = [(name, value) for name, (_, bad) in EDGES.items() for value in bad]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_what_is_in_range_arrives(name: str, value: Any) -> None:
    assert getattr(options(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_is_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(Refusal) as caught:
        options(**{name: value})
    assert caught.value.status == 400
    assert (caught.value.field or "").split("[")[0].split(".")[0] == name
    assert name in caught.value.message


def test_null_is_absent() -> None:
    assert options(**dict.fromkeys([*EDGES, "logprobs", "max_completion_tokens"])) == options()
    assert options() == GenerationOptions()


@pytest.mark.parametrize(("value", "top_k"), [(-1, 0), (0, 0), (7, 7)])
def test_top_k_off(value: int, top_k: int) -> None:
    assert options(top_k=value).top_k == top_k


def test_a_negative_seed_is_stored_modulo_64_bits() -> None:
    assert options(seed=-2).seed == 2**64 - 2
    assert options(seed=-(2**63)).seed == 2**63


def test_minus_one_is_any_seed() -> None:
    assert options(seed=-1).seed is None


def test_a_nucleus_of_nothing_is_the_likeliest_token() -> None:
    for temperature in (None, 0, 1.5):
        greedy = options(top_p=0, temperature=temperature)
        assert (greedy.temperature, greedy.top_p) == (0, None)


def test_the_other_names_of_penalties_and_limits() -> None:
    assert options(repeat_penalty=1.5).repetition_penalty == 1.5
    assert options(repeat_penalty=1.5, repetition_penalty=1.2).repetition_penalty == 1.2
    for name in ("n_predict", "num_predict", "max_completion_tokens"):
        assert options(**{name: 7}).max_tokens == 7
        assert refusal(**{name: 0}).message == f"{name} must be at least 1."
    for name in ("n_predict", "num_predict"):
        assert options(**{name: -1}).max_tokens == options(**{name: -2}).max_tokens == 2**31 - 1
        assert refusal(**{name: -3}).field == name
    assert options(max_tokens=5, n_predict=7).max_tokens == 5


def test_what_concerns_single_tokens() -> None:
    assert [*(options(allowed_token_ids=[3, 3]).allowed_token_ids or ())] == [3, 3]
    assert refusal(allowed_token_ids=[]).message == "allowed_token_ids must not be empty."
    assert options(bad_words=["a", "b c"]).bad_words == ("a", "b c")
    for words in ([""], "a", [5], ["a"] * 129, ["a" * 129]):
        assert (refusal(bad_words=words).field or "").startswith("bad_words")
    assert not options(skip_special_tokens=False).skip_special_tokens
    assert options(stop_in_reasoning=True).stop_in_reasoning


def test_a_salt_is_a_text_of_bounded_length() -> None:
    assert options(cache_salt="s").cache_salt == "s"
    assert refusal(cache_salt="s" * 1025).field == refusal(cache_salt=5).field == "cache_salt"


def test_prompt_logprobs() -> None:
    assert options(prompt_logprobs=0).prompt_logprobs == 0
    for value in (-1, 21, True):
        assert refusal(prompt_logprobs=value).field == "prompt_logprobs"
    assert refusal(prompt_logprobs=1, stream=True).field == "prompt_logprobs"


def test_stop() -> None:
    assert options(stop="a").stop == ("a",)
    assert options(stop=["a", "b"]).stop == ("a", "b")
    assert options(stop=[]).stop == ()
    assert len(options(stop=["a"] * 64).stop) == 64
    assert options(stop=["a" * 8000, "b" * 192]).stop == ("a" * 8000, "b" * 192)
    for long in ("a" * 8193, ["a" * 8000, "b" * 193]):
        with pytest.raises(Refusal) as caught:
            options(stop=long)
        assert caught.value.field == "stop" and "8192 characters" in caught.value.message


def test_token_ids() -> None:
    assert options(logit_bias={"5": -100, "7": 1.5}).logit_bias == {5: -100.0, 7: 1.5}
    assert options(stop_token_ids=[0, 9]).stop_token_ids == (0, 9)


def test_min_tokens_within_max_tokens() -> None:
    assert options(min_tokens=5, max_tokens=5).min_tokens == 5
    with pytest.raises(Refusal, match="min_tokens must be at most max_tokens, which is 4"):
        options(min_tokens=5, max_tokens=4)


def test_the_newer_name_of_max_tokens_wins() -> None:
    assert options(max_tokens=5, max_completion_tokens=7).max_tokens == 7
    assert options(max_completion_tokens=7).max_tokens == 7


def test_flags() -> None:
    assert options(include_stop_str_in_output=True).include_stop
    assert options(stream_options={"include_usage": True}).include_usage
    assert not options(stream_options={}).include_usage


def test_lists_and_texts_have_bounds() -> None:
    for name, value, beyond in (
        ("logit_bias", dict.fromkeys(range(4096), 1), dict.fromkeys(range(4097), 1)),
        ("allowed_token_ids", [5] * 2**18, [5] * (2**18 + 1)),
        ("stop", ["a"], ["a"] * 65),
        ("documents", [{"text": "a" * 10**6}] * 9, [{}] * 10_001),
        ("chat_template_kwargs", {"a": ["b"] * 5000}, {"a": [[[]] * 4000] * 2, "b": [{}] * 9000}),
        ("messages", [{"role": "user", "content": ""}] * 2**14, [{"role": "user"}] * (2**14 + 1)),
    ):
        options(**{name: value})
        caught = refusal(**{name: beyond})
        assert (caught.field or "").startswith(name) and "at most" in caught.message
    assert refusal(logit_bias=dict.fromkeys(range(4097), 1)).message == (
        "logit_bias must have at most 4096 items."
    )
