"""The part that OpenAI's two text dialects share: prompts, usage, chunks."""

from typing import Any

import msgspec
import pytest
from msgspec import Struct
from openai.types import CompletionUsage

from bessemer.engine.request import Refusal
from bessemer.translate import openai_chat
from bessemer.translate.chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    Done,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Identity,
    Progress,
    PromptProgress,
    TextDelta,
    Timings,
    TokenText,
    Usage,
)
from bessemer.translate.dialect import COMMENT, ServerEvent
from bessemer.translate.openai_shape import (
    AnswerBody,
    ChunkStream,
    StreamOptions,
    TextRequest,
    TimingsBody,
    UsageBody,
    each_prompt,
    encode_json,
    filled,
    finite,
    text_options,
    usage_body,
)


class Listed(Struct):
    said: str
    first: list[int]
    inner: "Listed | None" = None
    last: list[str | None] | None = None


def test_lists_are_filled_in_order_wherever_they_are_and_nothing_else_is() -> None:
    """Expect what msgspec makes of the whole; texts may spell what is looked for."""
    said, names = '"first":[] "last":[]', ["a", None, '"first":[]', "ü"]
    for numbers, texts in (([1, 2, 3], names), ([], []), ([7], [])):
        body = Listed(said, [], Listed(said, [4], None, []))
        whole = Listed(said, numbers, Listed(said, [4], None, texts))
        assert filled(body, first=iter(numbers), last=iter(texts)) == encode_json(whole)
    assert filled(Listed(said, [1])) == encode_json(Listed(said, [1]))


@pytest.mark.parametrize(
    ("value", "prompts"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([1, 2, 3], ((1, 2, 3),)),  # one prompt, however many ids
    ],
)
def test_each_prompt_of_a_field(value: Any, prompts: tuple[Any, ...]) -> None:
    assert each_prompt("input", value, 2) == prompts


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["a", "b", "c"], "input must hold at most 2 texts."),
        ([[1], [2], [3]], "input must hold at most 2 texts."),
        (["a", 1], "input must not mix texts, token ids and lists of token ids."),
        ([[1], 1], "input must not mix texts, token ids and lists of token ids."),
    ],
)
def test_prompts_that_are_refused(value: Any, says: str) -> None:
    with pytest.raises(Refusal) as caught:
        each_prompt("input", value, 2)
    assert (caught.value.field, caught.value.message) == ("input", says)


def test_usage_as_the_sdk_reads_it() -> None:
    body = encode_json(usage_body(Usage(prompt=10, completion=4, cached=8, reasoning=3)))
    usage = CompletionUsage.model_validate_json(body, strict=True)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 4, 14)
    assert usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens == 8
    assert usage.completion_tokens_details
    assert usage.completion_tokens_details.reasoning_tokens == 3


@pytest.mark.parametrize(
    ("logprob", "value"), [(-0.5, -0.5), (float("-inf"), -9999.0), (None, -9999.0), (-1e5, -9999.0)]
)
def test_a_log_probability_is_finite(logprob: float | None, value: float) -> None:
    assert finite(TokenText("x", b"x", logprob)) == value


class ToyChunk(AnswerBody):
    choices: list[str]
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET
    timings: TimingsBody | msgspec.UnsetType = msgspec.UNSET
    system_fingerprint: str | msgspec.UnsetType = msgspec.UNSET


class ToyStream(ChunkStream):
    body = ToyChunk

    def _nothing(self, choice: int) -> Struct:
        return Listed(str(choice), [])

    def _started(self, event: AnswerStarted) -> tuple[ServerEvent, ...]:
        return tuple(self._send(str(choice)) for choice in self._begin(event))  # type: ignore[arg-type]

    def _finish(self, event: Finish) -> tuple[ServerEvent, ...]:
        self._open.discard(event.choice)
        return (self._send(event.reason),)  # type: ignore[arg-type]

    handlers = {AnswerStarted: _started, Finish: _finish, **ChunkStream.common}  # noqa: RUF012


@pytest.mark.parametrize("include_usage", [False, True])
def test_chunks_repeat_who_answers_and_the_last_may_have_the_usage(include_usage: bool) -> None:
    options = GenerationOptions(include_usage=include_usage)
    stream = ToyStream(Identity("x-1", 7, "m"), options)
    events: list[Event] = [Finish(0, "stop"), Done(Usage(2, 3))]
    *chunks, mark = [each for event in events for each in stream.encode(event)]
    assert (mark.data, mark.mark) == (b"[DONE]", True) and not any(each.mark for each in chunks)
    bodies = [msgspec.json.decode(each.data) for each in chunks]
    head = {"id": "x-1", "created": 7, "model": "m"}
    if not include_usage:
        assert bodies == [head | {"choices": ["stop"]}]
        return
    assert bodies[0] == head | {"choices": ["stop"], "usage": None}
    assert bodies[1]["choices"] == [] and bodies[1]["usage"]["total_tokens"] == 5


@pytest.mark.parametrize(("usage", "continuous"), [(True, True), (True, False), (False, True)])
def test_usage_in_every_piece_is_had_with_usage_alone(usage: bool, continuous: bool) -> None:
    stream = StreamOptions(include_usage=usage, continuous_usage_stats=continuous)
    out = text_options(TextRequest(model="m", stream=True, stream_options=stream), 7, 2)
    assert (out.include_usage, out.continuous_usage) == (usage, usage and continuous)
    assert (out.stream, out.n, out.max_tokens, out.logprobs) == (True, 1, 7, 2)


def test_a_prompts_logprobs_are_not_streamed() -> None:
    for stream, top in ((True, None), (False, 0), (None, 3)):
        request = TextRequest(model="m", stream=stream, prompt_logprobs=top, n=2)
        chosen = text_options(request, 7, 5)
        assert (chosen.prompt_logprobs, chosen.max_tokens, chosen.logprobs) == (top, 7, 5)
        assert (chosen.n, chosen.include_usage) == (2, False)
    with pytest.raises(Refusal, match="cannot be had where stream is true") as caught:
        text_options(TextRequest(model="m", stream=True, prompt_logprobs=0), 7, None)
    assert caught.value.field == "prompt_logprobs"


def test_a_failure_is_the_last_chunk() -> None:
    stream = ToyStream(Identity("x-1", 7, "m"), GenerationOptions())
    (event,) = stream.encode(Failure(Refusal(503, "overloaded", "Later.")))
    assert msgspec.json.decode(event.data)["error"]["message"] == "Later." and not event.mark


def test_usage_goes_along_and_a_comment_says_that_all_choices_have_ended() -> None:
    options = GenerationOptions(include_usage=True, continuous_usage=True)
    stream = ToyStream(Identity("x-1", 7, "m"), options)
    begun = [
        msgspec.json.decode(each.data) for each in stream.encode(AnswerStarted(Usage(2, 0), 2))
    ]
    assert [each["choices"] for each in begun] == [["0"], ["1"]]
    for choice in (0, 1):
        (chunk,) = stream.encode(Finish(choice, "stop"))
        assert msgspec.json.decode(chunk.data)["usage"]["total_tokens"] == 2
        (beat,) = stream.encode(Heartbeat())
        assert (beat == COMMENT) == (choice == 1)
        assert choice or msgspec.json.decode(beat.data)["choices"][0]["said"] == "1"
    assert stream.encode(Progress(Usage(2, 5))) == ()
    (chunk,) = stream.encode(Finish(0, "stop"))
    assert msgspec.json.decode(chunk.data)["usage"]["total_tokens"] == 7


CHAT_ID = Identity("chatcmpl-1", 7, "m")


def read_text(stream: bool) -> TextRequest:
    return TextRequest(stream=stream, return_progress=True, timings_per_token=True)


def sent_chunks(events: list[Event], options: GenerationOptions) -> list[bytes]:
    stream = openai_chat.Stream(CHAT_ID, options)
    return [each.data for event in events for each in stream.encode(event)]


def test_progress_and_timings_as_llama_cpp_shows_them() -> None:
    asked = text_options(read_text(True), 5, None)
    assert asked.progress and asked.timings
    assert not text_options(read_text(False), 5, None).progress  # there is nothing to put it in
    timings = Timings(32, 64, 0.5, 5, 2.0, 4)
    events: list[Event] = [
        AnswerStarted(Usage(96, 0), 2),
        PromptProgress(1, 96, 32, 64, 0.25),
        Progress(Usage(96, 1), timings),
        TextDelta(0, "a"),
        Done(Usage(96, 4), timings),
    ]
    *data, _ = sent_chunks(events, GenerationOptions(n=2, include_usage=True))
    read = [*map(msgspec.json.decode, data)]
    assert not any("timings" in each or "prompt_progress" in each for each in read[:2])
    assert read[2]["prompt_progress"] == {
        "total": 96,
        "cache": 32,
        "processed": 64,
        "time_ms": 250.0,
    }
    assert read[2]["choices"][0]["index"] == 1 and "timings" not in read[2]
    shown = {
        "cache_n": 32,
        "prompt_n": 64,
        "prompt_ms": 500.0,
        "prompt_per_token_ms": 7.8125,
        "prompt_per_second": 128.0,
        "predicted_n": 5,
        "predicted_ms": 2000.0,
        "predicted_per_token_ms": 500.0,
        "predicted_per_second": 2.0,
    }
    assert read[3]["timings"] == read[4]["timings"] == shown and read[4]["usage"]
    answer = Answer((AnswerChoice("x", "", "stop"),), Usage(96, 4), timings)
    whole = openai_chat.encode_response(answer, CHAT_ID)
    assert msgspec.json.decode(whole)["timings"] == shown
    (nothing, _) = sent_chunks(
        [Done(Usage(96, 4), Timings(0, 0, 0.0, 0, 0.0, 0))], GenerationOptions(include_usage=True)
    )
    assert set(msgspec.json.decode(nothing)["timings"].values()) == {0}
