"""Tests of Ollama's answers: the lines of streams and whole bodies, as the official types read."""

import json
from typing import Any

import ollama
import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Durations,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Identity,
    ReasoningDelta,
    TextDelta,
    TokenText,
    ToolCall,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.ollama import CHAT, GENERATE
from bessemer.translate.output import Collector

WHO = Identity("chat-1", 1_700_000_000, "m")
TIMES = Durations(total=90, load=1, prompt=20, completion=60)
TOKEN = TokenText("é", "é".encode(), -0.5, (TokenText("x", b"x", float("-inf")),))
ARGUMENTS = '{"a": [1, "}"]}'


def lines(events: list[Event], dialect: Any = CHAT) -> list[dict[str, Any]]:
    stream = dialect.stream(WHO, GenerationOptions())
    sent = [event for each in events for event in stream.encode(each)]
    assert all(event.name is None and b"\n" not in event.data for event in sent)
    return [json.loads(event.data) for event in sent]


def whole(events: list[Event], dialect: Any = CHAT) -> Any:
    collector = Collector(1)
    for event in events:
        collector.add(event)
    return json.loads(dialect.encode_response(collector.answer(), WHO))


def call(arguments: list[str], index: int = 0) -> list[Event]:
    begun = ToolCallBegun(0, index, f"call_{index}", "f")
    return [begun, *(ArgumentsDelta(0, index, piece) for piece in arguments)]


@pytest.mark.parametrize("size", range(1, len(ARGUMENTS) + 1))
def test_a_call_is_one_line_once_it_is_whole(size: int) -> None:
    pieces = [ARGUMENTS[at : at + size] for at in range(0, len(ARGUMENTS), size)]
    events = [
        AnswerStarted(Usage(3, 0)), TextDelta(0, "I call."), *call(pieces), *call([], 1),
        Finish(0, "tool_calls"), Done(Usage(3, 9), durations=TIMES),
    ]  # fmt: skip
    text, first, second, last = map(ollama.ChatResponse.model_validate, lines(events))
    assert (text.message.content, text.message.tool_calls) == ("I call.", None)
    for line, arguments in ((first, {"a": [1, "}"]}), (second, {})):
        (called,) = line.message.tool_calls or [None]
        assert called is not None
        assert (called.function.name, called.function.arguments) == ("f", arguments)
    assert (last.done, last.done_reason, last.message.content) == (True, "stop", "")
    answer = whole(events)
    calls = answer["message"]["tool_calls"]
    assert [(each["id"], each["function"]["index"]) for each in calls] == [
        ("call_0", 0), ("call_1", 1),
    ]  # fmt: skip
    assert calls[0]["function"]["arguments"] == {"a": [1, "}"]}
    assert calls == [
        each for line in lines(events) for each in line["message"].get("tool_calls", ())
    ]


def test_a_call_that_breaks_off_is_only_its_text() -> None:
    events = [*call(['{"a": [1']), TextDelta(0, '<call>{"a": [1'), Finish(0, "length")]
    (line,) = lines(events)
    assert line["message"] == {"role": "assistant", "content": '<call>{"a": [1'}


def test_the_last_line_and_a_whole_answer_have_counts_and_times() -> None:
    events = [
        AnswerStarted(Usage(3, 0)), ReasoningDelta(0, "Hm."), TextDelta(0, "é", (TOKEN,)),
        Finish(0, "length"), Done(Usage(3, 9, cached=2), None, (5, 6), TIMES),
    ]  # fmt: skip
    counts = {
        "done": True, "done_reason": "length", "total_duration": 90, "load_duration": 1,
        "prompt_eval_count": 3, "prompt_eval_duration": 20, "eval_count": 9, "eval_duration": 60,
    }  # fmt: skip
    who = {"model": "m", "created_at": "2023-11-14T22:13:20Z"}
    logprob = {
        "token": "é", "logprob": -0.5, "bytes": [195, 169],
        "top_logprobs": [{"token": "x", "logprob": -9999.0, "bytes": [120]}],
    }  # fmt: skip
    thought, text, last = lines(events)
    assert thought == who | {
        "done": False, "message": {"role": "assistant", "content": "", "thinking": "Hm."},
    }  # fmt: skip
    assert text["logprobs"] == [logprob] and text["message"]["content"] == "é"
    assert last == who | counts | {"message": {"role": "assistant", "content": ""}}
    message = {"role": "assistant", "content": "é", "thinking": "Hm."}
    assert whole(events) == who | counts | {"message": message, "logprobs": [logprob]}
    ollama.ChatResponse.model_validate(whole(events), strict=True)

    thought, text, last = lines(events, GENERATE)
    assert thought == who | {"done": False, "response": "", "thinking": "Hm."}
    assert last == who | counts | {"response": "", "context": [5, 6]}
    ours = {"response": "é", "thinking": "Hm.", "context": [5, 6], "logprobs": [logprob]}
    assert whole(events, GENERATE) == who | counts | ours
    ollama.GenerateResponse.model_validate(whole(events, GENERATE), strict=True)


def test_a_model_that_is_only_loaded() -> None:
    none = Usage(0, 0)
    events = [AnswerStarted(none), Finish(0, "load"), Done(none)]
    (line,) = lines(events)
    assert line == whole(events)
    assert (line["done"], line["done_reason"]) == (True, "load") and "eval_count" not in line
    assert whole(events, GENERATE)["response"] == ""


@pytest.mark.parametrize("dialect", [CHAT, GENERATE])
def test_a_sign_of_life_is_an_empty_piece_and_a_failure_an_error(dialect: Any) -> None:
    life, failed = lines([Heartbeat(), Failure(Refusal(503, "c", "No."))], dialect)
    assert life["done"] is False and "error" not in life
    assert (life.get("response"), life.get("message", {}).get("content")) in (
        ("", None),
        (None, ""),
    )
    assert failed == {"error": "No."}


def test_only_whole_calls_are_in_an_answer() -> None:
    choice = AnswerChoice("", "", "tool_calls", calls=(ToolCall("i", "f", ""),))
    body = json.loads(CHAT.encode_response(Answer((choice,), Usage(1, 1)), WHO))
    assert body["message"]["tool_calls"][0]["function"]["arguments"] == {}
