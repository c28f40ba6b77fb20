"""Legacy completions: all kinds of prompts, their own logprobs, answers read by the SDK."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from openai.types import Completion as OpenAICompletion

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    Best,
    Completion,
    Done,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Identity,
    Progress,
    PromptProgress,
    RankedToken,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenText,
    Usage,
)
from bessemer.translate.dialect import COMMENT
from bessemer.translate.openai_completions import Stream, decode_request, encode_response

PLAIN = GenerationOptions()
WHO = Identity("cmpl-1", 1_700_000_000, "tiny")


def decoded(prompt: Any = "Once", **fields: Any) -> Completion:
    return decode_request(json.dumps({"model": "m", "prompt": prompt, **fields}).encode())


def refused(prompt: Any = "Once", **fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decoded(prompt, **fields)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("Once", ("Once",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 0], ((1, 2, 0),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([[1]], ((1,),)),
        (None, ("",)),  # the empty prompts, as OpenAI has them
        ("", ("",)),
        ([], ("",)),
        (["", "a"], ("", "a")),
        ([[]], ((),)),
        ([[1], []], ((1,), ())),
    ],
)
def test_prompts(prompt: Any, prompts: tuple[Any, ...]) -> None:
    assert decoded(prompt).prompts == prompts


@pytest.mark.parametrize(
    ("prompt", "field", "says"),
    [
        (5, "prompt", "a string or a list"),
        ({}, "prompt", "a string or a list"),
        ([-1], "prompt[0]", "at least 0"),
        ([[0, -1]], "prompt[0][1]", "at least 0"),
        ([2**31], "prompt[0]", "at most"),
        ([1.5], "prompt[0]", "not a number"),
        ([True], "prompt[0]", "not true or false"),
        ([None], "prompt[0]", "not null"),
        ([["a"]], "prompt[0][0]", "an integer, not a string"),
        (["a", 1], "prompt", "must not mix"),
        ([1, [1]], "prompt", "must not mix"),
        (["a", [1]], "prompt", "must not mix"),
        (["a"] * 1025, "prompt", "at most 1024"),
    ],
)
def test_flawed_prompts(prompt: Any, field: str, says: str) -> None:
    error = refused(prompt)
    assert error.field == field
    assert says in error.message


def test_defaults() -> None:
    assert decoded().options == GenerationOptions(usual_max_tokens=16)
    assert not decoded().echo
    assert decoded(user="u") == decoded()


def test_control_tokens_are_parsed_unless_a_client_says_no() -> None:
    fields = [{}, {"parse_special": None}, {"parse_special": True}, {"parse_special": False}]
    assert [decoded(**each).parse_special for each in fields] == [True, True, True, False]
    assert [decoded(**each).echo for each in ({}, {"echo": None}, {"echo": True})] == [0, 0, 1]


def test_no_tokens_at_all() -> None:
    assert decoded(max_tokens=0, echo=True).options.max_tokens == 0
    assert decoded(max_tokens=0).options.max_tokens == 0
    assert refused(max_tokens=-1, echo=True).field == "max_tokens"


@pytest.mark.parametrize(
    ("value", "count"),
    [(None, None), (False, None), (True, 1), (0, 0), (5, 5), (20, 20)],
)
def test_logprobs_asked(value: Any, count: int | None) -> None:
    assert decoded(logprobs=value).options.logprobs == count


def test_logprobs_refused() -> None:
    assert refused(logprobs=21).field == "logprobs"
    assert refused(logprobs=-1).field == "logprobs"
    assert refused(logprobs="5").field == "logprobs"


def test_best_of_and_suffix() -> None:
    assert decoded(best_of=1, suffix="").options.n == 1
    assert decoded(best_of=3, n=3).options.n == 3
    best = decoded(best_of=3, n=2, top_p=0.5).options
    assert (best.n, best.best, best.logprobs) == (3, Best(2, False), 0)
    shown = decoded(best_of=3, logprobs=2).options
    assert (shown.n, shown.best, shown.logprobs) == (3, Best(1, True), 2)
    assert refused(best_of=2, n=3).field == "best_of"
    assert refused(best_of=3, stream=True).field == "best_of"
    filled = decoded(suffix="end")
    assert filled.suffix == "end" and not filled.parse_special
    assert decoded(suffix="end", parse_special=True).parse_special
    assert decoded(suffix="").suffix is None and decoded(suffix="").parse_special
    assert refused(suffix="end", echo=True).field == "echo"


def token(text: str, logprob: float | None = -1.0, *top: TokenText, offset: int = 0) -> TokenText:
    return TokenText(text, text.encode(), logprob, top, offset)


# The last character comes in two tokens, neither of which is a text.
TOKENS = (
    token("né", None),
    token("x", -0.5, token("y", -0.25), token("x", -0.5), offset=2),
    TokenText("\ufffd", b"\xc3", -1.0, (token("z", -3.0),), 3),
    TokenText("\ufffd", b"\xa9", -2.0, (token("w", float("-inf")),), 3),
    token("!", offset=4),
)


def test_a_response_as_the_sdk_reads_it() -> None:
    choices = (AnswerChoice("néxé!", "", "length", None, TOKENS), AnswerChoice("b", "Hm. ", "stop"))
    body = encode_response(Answer(choices, Usage(3, 5, 1)), WHO)
    read = OpenAICompletion.model_validate(msgspec.json.decode(body) | {"choices": []}, strict=True)
    assert (read.id, read.object, read.model) == ("cmpl-1", "text_completion", "tiny")
    assert read.usage and read.usage.total_tokens == 8
    first, second = msgspec.json.decode(body)["choices"]
    assert first["logprobs"] == {
        "tokens": ["né", "x", "bytes:\\xc3", "bytes:\\xa9", "!"],
        "token_logprobs": [None, -0.5, -1.0, -2.0, -1.0],
        "top_logprobs": [
            None,
            {"y": -0.25, "x": -0.5},
            {"z": -3.0, "bytes:\\xc3": -1.0},
            {"w": -9999.0, "bytes:\\xa9": -2.0},
            {"!": -1.0},
        ],
        "text_offset": [0, 2, 3, 3, 4],
    }
    assert second == {"text": "Hm. b", "index": 1, "logprobs": None, "finish_reason": "stop"}


def test_without_alternatives_there_are_no_tops() -> None:
    choice = AnswerChoice("ab", "", "stop", None, (token("a"), token("b", offset=1)))
    read = OpenAICompletion.model_validate_json(
        encode_response(Answer((choice,), Usage(1, 2)), WHO), strict=True
    )
    assert read.choices[0].logprobs and read.choices[0].logprobs.top_logprobs is None
    assert read.choices[0].logprobs.text_offset == [0, 1]


def sent(events: Iterable[Event], options: GenerationOptions = PLAIN) -> list[Any]:
    stream = Stream(WHO, options)
    out = [e for event in events for e in stream.encode(event)]
    assert all(e.name is None and b"\n" not in e.data for e in out)
    return [e.data if e.data == b"[DONE]" else msgspec.json.decode(e.data) for e in out]


def test_a_stream() -> None:
    events: list[Event] = [
        AnswerStarted(Usage(2, 0)),
        TextDelta(0, "On"),
        ReasoningDelta(1, "ce"),
        Finish(0, "stop"),
        Finish(1, "length"),
        Done(Usage(2, 3)),
    ]
    *data, last = sent(events, GenerationOptions(n=2))
    assert last == b"[DONE]"
    # As the SDK reads a stream: its type does not allow the null that OpenAI itself sends.
    read = [OpenAICompletion.construct(**d) for d in data]
    assert [(c.choices[0].index, c.choices[0].text) for c in read] == [
        (0, "On"),
        (1, "ce"),
        (0, ""),
        (1, ""),
    ]
    assert [c.choices[0].finish_reason for c in read] == [None, None, "stop", "length"]
    assert all("usage" not in d for d in data)


def test_usage_where_it_is_asked_for() -> None:
    events: list[Event] = [TextDelta(0, "a"), Done(Usage(2, 3, 1))]
    text, usage, _ = sent(events, GenerationOptions(include_usage=True))
    assert text["usage"] is None
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}


def test_each_chunk_has_the_offsets_of_its_tokens() -> None:
    events = [TextDelta(0, "", TOKENS[:2]), TextDelta(1, "", TOKENS[:1]), TextDelta(0, "!")]
    bodies = [d["choices"][0]["logprobs"] for d in sent(events)]
    assert bodies[0]["text_offset"] == [0, 2] and bodies[1]["text_offset"] == [0]
    assert bodies[2] is None


def test_a_chunk_of_a_first_token_keeps_the_place_of_its_alternatives() -> None:
    for logprobs, tops in ((2, [None]), (0, None)):
        (data,) = sent(
            [TextDelta(0, "a", (token("a", None),))], GenerationOptions(logprobs=logprobs)
        )
        assert data["choices"][0]["logprobs"]["top_logprobs"] == tops


def test_a_heartbeat_is_an_empty_text_of_an_open_choice() -> None:
    events = [Heartbeat(), AnswerStarted(Usage(1, 0), 2), Finish(0, "stop"), Heartbeat()]
    stream = Stream(WHO, PLAIN)
    first, _, _, last = (stream.encode(event) for event in events)
    for beat, index in ((first, 0), (last, 1)):
        (choice,) = msgspec.json.decode(beat[0].data)["choices"]
        assert (choice["index"], choice["text"], choice["finish_reason"]) == (index, "", None)
    stream.encode(Finish(1, "stop"))
    assert stream.encode(Heartbeat()) == (COMMENT,)


def test_progress_and_timings_as_llama_cpp_shows_them() -> None:
    timings = Timings(32, 64, 0.5, 5, 2.0, 4)
    events: list[Event] = [
        AnswerStarted(Usage(96, 0)),
        PromptProgress(0, 96, 32, 64, 0.25),
        Progress(Usage(96, 1), timings),
        TextDelta(0, "a"),
    ]
    progress, text = sent(events)
    assert progress["prompt_progress"]["processed"] == 64 and "timings" not in progress
    assert progress["choices"] == [
        {"text": "", "index": 0, "logprobs": None, "finish_reason": None}
    ]
    assert text["timings"]["prompt_per_second"] == 128.0 and "prompt_progress" not in text
    whole = encode_response(Answer((AnswerChoice("x", "", "stop"),), Usage(1, 1), timings), WHO)
    assert msgspec.json.decode(whole)["timings"]["predicted_per_second"] == 2.0


def test_prompt_logprobs_are_each_choices_own() -> None:
    prompt = ((), (RankedToken(7, "a", -0.5, 1),))
    choices = (AnswerChoice("x", "", "stop", prompt=prompt), AnswerChoice("y", "", "stop"))
    body = encode_response(Answer(choices, Usage(2, 2)), WHO)
    OpenAICompletion.model_validate_json(body, strict=True)
    first, second = msgspec.json.decode(body)["choices"]
    ranked = {"logprob": -0.5, "rank": 1, "decoded_token": "a"}
    assert first["prompt_logprobs"] == [None, {"7": ranked}] and "prompt_logprobs" not in second
    assert refused(prompt_logprobs=0, stream=True).field == "prompt_logprobs"


def test_a_failure() -> None:
    (failure,) = sent([Failure(Refusal(500, "oops", "Broke."))])
    assert failure["error"]["type"] == "server_error"
