"""Tokens by what other servers say of them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence

import pytest

from bessemer.http.gateway.metering import Meter, counted, metered, usage_told
from bessemer.http.message import Reply, Response, StreamingResponse
from bessemer.translate.chat import AnswerStarted, Done, Event, Finish, Progress, TextDelta, Usage

TOLD = [
    ({"usage": {"prompt_tokens": 5, "completion_tokens": 3}}, Usage(5, 3, created=0)),
    (
        {"usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}},
        Usage(5, 0, 4, created=0),
    ),
    (
        {"usage": {"input_tokens": 5, "output_tokens": 3, "cache_read_input_tokens": 7}},
        Usage(12, 3, 7, created=0),
    ),
    ({"usage": {"input_tokens": 5, "cache_creation_input_tokens": 2}}, Usage(7, 0, created=2)),
    (
        {"type": "message_start", "message": {"usage": {"input_tokens": 9}}},
        Usage(9, 0, created=0),
    ),
    (
        {"response": {"usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 8}}}},
        Usage(9, 0, 8, created=0),
    ),
    ({"prompt_eval_count": 4, "eval_count": 2}, Usage(4, 2)),
    ({"usage": None}, None),
    ({"choices": []}, None),
    ({"usage": {"prompt_tokens": "many"}}, None),
    (["usage"], None),
]


@pytest.mark.parametrize(("body", "usage"), TOLD)
def test_each_dialect_s_names_are_known(body: object, usage: Usage | None) -> None:
    assert usage_told(json.dumps(body).encode()) == usage


def test_a_stream_s_parts_come_to_all() -> None:
    """Anthropic's last event may tell the prompt again, or leave it out."""
    meter = Meter()
    meter.read(b'event: message_start\ndata: {"message":{"usage":{"input_tokens":9}}}\n\n')
    meter.read(b'data: {"delta":{"text":"the word usage"}}\n\n')
    meter.read(b'data: {"type":"message_delta","usage":{"output_tokens":4}}\n\n: x\n')
    assert (meter.usage.prompt, meter.usage.completion) == (9, 4)
    meter.read(b'{"eval_count":6,"prompt_eval_count":9}\n')
    assert (meter.usage.prompt, meter.usage.completion) == (9, 6)


def replies(reply: Reply, spent: list[Usage], most: int = 99) -> list[bytes]:
    async def read() -> list[bytes]:
        through = metered(reply, spent.append)
        if isinstance(through, Response):
            return [through.body]
        chunks = list[bytes]()
        async for chunk in through.chunks:
            chunks.append(chunk)
            if len(chunks) == most:
                break
        await through.chunks.aclose()
        return chunks

    return asyncio.run(read())


async def _chunks(chunks: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


def test_replies_go_through_as_they_are_and_are_told_of_once() -> None:
    body = b'{"usage":{"prompt_tokens":5,"completion_tokens":3}}'
    spent = list[Usage]()
    assert replies(Response(200, body), spent) == [body] and len(spent) == 1
    assert replies(Response(500, body), spent) == [body] and len(spent) == 1
    chunks = [b"data: {}\n\n", b"data: " + body + b"\n\n", b"data: [DONE]\n\n"]
    assert replies(StreamingResponse(_chunks(chunks)), spent) == chunks
    assert replies(StreamingResponse(_chunks(chunks)), spent, 1) == chunks[:1]
    assert [(each.prompt, each.completion) for each in spent] == [(5, 3), (5, 3), (0, 0)]


def events(said: Sequence[Event], spent: list[Usage], most: int = 99) -> list[Event]:
    async def each() -> AsyncGenerator[Event, None]:
        for event in said:
            yield event

    async def read() -> list[Event]:
        through, out = counted(each(), spent.append), list[Event]()
        async for event in through:
            out.append(event)
            if len(out) == most:
                break
        await through.aclose()
        return out

    return asyncio.run(read())


def test_an_answer_that_is_given_up_has_the_tokens_that_came() -> None:
    texts = [TextDelta(0, each) for each in "abc"]
    said = [AnswerStarted(Usage(3, 0)), *texts, Finish(0, "stop"), Done(Usage(3, 4, 2))]
    spent = list[Usage]()
    assert events(said, spent) == said and spent == [Usage(3, 4, 2)]
    assert events(said, spent, 3) == said[:3] and spent[1] == Usage(3, 2)
    told = [said[0], texts[0], Progress(Usage(3, 9)), texts[1], texts[2]]
    assert events(told, spent, 4) == told[:4] and spent[2] == Usage(3, 10)
