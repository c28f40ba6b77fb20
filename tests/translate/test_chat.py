"""The conversation vocabulary: contents, what a request leaves open, and what crosses to a log."""

import dataclasses
from typing import Any

import msgspec
import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Completion,
    Done,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Message,
    Progress,
    PromptLogprobs,
    PromptProgress,
    RankedToken,
    ReasoningDelta,
    TextDelta,
    ThoughtSealed,
    ThoughtSigned,
    Timings,
    TokenText,
    ToolCallBegun,
    ToolChoice,
    Usage,
)

EVENTS: list[Event] = [
    AnswerStarted(Usage(3, 0)),
    PromptLogprobs(0, ((), (RankedToken(7, "a", -0.5, 1),))),
    PromptProgress(0, 9, 3, 6, 0.5),
    Progress(Usage(3, 1), Timings(3, 6, 0.5, 2, 0.25, 1)),
    TextDelta(0, "a"),
    ReasoningDelta(0, "a"),
    ThoughtSealed(0, "a"),
    ThoughtSigned(0, "a"),
    ToolCallBegun(0, 0, "call_1", "add"),
    ArgumentsDelta(0, 0, "{}"),
    Finish(0, "stop"),
    Done(Usage(3, 4)),
    Heartbeat(),
    Failure(Refusal(503, "overloaded", "Later.")),
]


def said_of(value: Any) -> dict[str, Any]:
    """Return what is not left open, empty, off or 0."""
    return {name: each for name in value.__slots__ if (each := getattr(value, name))}


def test_what_a_request_does_not_say_is_left_open() -> None:
    options = GenerationOptions()
    left_open = {name for name in options.__slots__ if getattr(options, name) is None}
    assert left_open == {
        *("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "logprobs"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        *("allowed_token_ids", "prompt_logprobs", "usual_max_tokens", "best"),
        *("stream_format", "stream_chunk", "overflow", "shortened"),
    }
    chat, completion = Chat("m", ()), Completion("m", ())
    assert chat.options == completion.options == options
    assert said_of(options) == {"n": 1, "skip_special_tokens": True}
    assert said_of(completion) == {"model": "m", "options": options, "parse_special": True}
    assert said_of(Message("user")) == {"role": "user"}
    assert chat.response_format is completion.response_format is None
    assert chat.tool_choice == ToolChoice("auto", (), parallel=True)
    assert said_of(chat).keys() == {
        *("model", "options", "tool_choice", "call_prefix", "reasoning")
    }
    assert said_of(chat.reasoning) == {"shown": "apart"}


def test_what_an_answer_does_not_say_is_nothing() -> None:
    assert said_of(TokenText("a", b"a", None)) == {"text": "a", "raw": b"a"}
    assert said_of(Usage(3, 4)) == {"prompt": 3, "completion": 4}
    assert AnswerStarted(Usage(3, 0)).choices == 1


def test_requests_share_nothing_that_can_be_changed() -> None:
    first, second = Chat("m", ()), Chat("m", ())
    assert first == second and first.template is not second.template
    assert GenerationOptions().logit_bias is not GenerationOptions().logit_bias
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.model = "other"  # type: ignore[misc]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_cannot_be_changed_and_are_all_there(event: Event) -> None:
    assert {type(each) for each in EVENTS} == set(Event.__args__)
    assert isinstance(event, msgspec.Struct)
    for name in event.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(event, name, None)
