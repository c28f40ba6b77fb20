"""A chat model's vectors as a backend, over a worker that follows a script."""

import asyncio
from array import array
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import pytest

from bessemer.engine.admission import Admission
from bessemer.engine.memory import Plan
from bessemer.engine.request import (
    Embedded,
    Event,
    GenerationDefaults,
    Refusal,
    Refused,
    Request,
    Started,
)
from bessemer.engine.wire import VERSION, Ready
from bessemer.translate.openai_embeddings import Embedding, Vectors
from tests.http.scripted_backend import writer
from tests.translate.test_answer import RENDERER, VOCABULARY

GIVEN = tuple(range(40, 70, 3))  # lengths of ten inputs
INPUTS = tuple((7,) * length for length in (*GIVEN[5:], *GIVEN[:5]))


def numbers(length: int) -> bytes:
    return array("f", [3.0 * length, 4.0 * length]).tobytes()


def backwards(requests: list[Request]) -> Iterable[Event | None]:
    """Answer the last text first."""
    for request in reversed(requests):
        yield Started(request.id, 0)
        yield None
        length = len(request.tokens)
        yield Embedded(request.id, [0], numbers(length), length, True)


def embedded(model: Any, *inputs: Any, **more: Any) -> Vectors:
    vectors: Vectors = asyncio.run(model.embed(Embedding("m", inputs, client="c", **more)))
    return vectors


def model_of(script: Any, slots: int = 64) -> tuple[Any, Any]:
    model, worker = writer(script)
    worker.slots = slots
    worker.ready = Ready(
        VERSION, Plan(0, 0, 0, 0, 0, 200), "llama", GenerationDefaults(), VOCABULARY, 2
    )
    return model, worker


def test_texts_go_off_few_at_a_time_the_shortest_first_and_come_back_in_their_order() -> None:
    asked: list[list[int]] = []

    def script(requests: list[Request]) -> Iterable[Event | None]:
        assert worker.admission._counts == {"c": 3}
        assert all((r.embeds, r.max_tokens, r.client) == (True, 0, "c") for r in requests)
        asked.append([len(request.tokens) for request in requests])
        return backwards(requests)

    model, worker = model_of(script, slots=6)
    vectors = embedded(model, *INPUTS)
    assert asked == [[40, 43, 46], [49, 52, 55], [58, 61, 64], [67]]
    assert vectors.rows == [numbers(len(each)) for each in INPUTS]
    assert vectors.tokens == sum(GIVEN) and vectors.duration > 0
    assert worker.stream.closed and not worker.admission._counts
    assert (model.activity.requests, model.activity.prompt_tokens) == (1, sum(GIVEN))


def test_texts_are_tokenized_as_whole_ones_and_count_what_they_have() -> None:
    model, worker = model_of(backwards)
    vectors = embedded(model, "Hello there", "Hi" * 3)
    ids = [RENDERER.tokens(text, True, False, 200) for text in ("Hello there", "HiHiHi")]
    assert sorted([*each.tokens] for each in worker.requests) == sorted(ids)
    assert vectors.tokens == sum(map(len, ids))


def test_fewer_dimensions_are_made_as_long_as_1() -> None:
    model, _ = model_of(backwards)
    assert embedded(model, (5,), dimensions=1).rows == [array("f", [1.0]).tobytes()]
    assert embedded(model, (5,)).rows == [numbers(1)]


@pytest.mark.parametrize(
    ("inputs", "more", "field"),
    [
        (("a", (7,) * 201), {}, "input"),
        (((7, VOCABULARY),), {}, "input"),
        (("a",), {"dimensions": 3}, "dimensions"),
        (("a",), {"prompt": "query"}, "prompt_name"),
    ],
)
def test_what_is_refused_reaches_no_worker(inputs: Any, more: Any, field: str) -> None:
    model, worker = model_of(backwards)
    with pytest.raises(Refusal) as caught:
        embedded(model, *inputs, **more)
    assert (caught.value.status, caught.value.field) == (400, field)
    assert not worker.requests and not worker.admission._counts
    assert embedded(model) == Vectors((), 0)  # it is only to be there
    assert not worker.requests


@pytest.mark.parametrize("wrong", [False, True])
def test_texts_have_places_while_they_are_computed(wrong: bool) -> None:
    def script(requests: list[Request]) -> Iterable[Event | None]:
        with pytest.raises(Refusal, match="Too many requests"):
            worker.admission.enter("c", 1)
        if wrong:
            yield Refused(requests[0].id, 503, "worker_died", "gone")
        yield from backwards(requests)

    model, worker = model_of(script, slots=2)
    worker.admission = Admission(1, 0)
    for _ in range(3):
        with pytest.raises(Refusal, match="gone") if wrong else nullcontext():
            embedded(model, *INPUTS)
    worker.admission.enter("d", 1)
    with pytest.raises(Refusal, match="Too many requests"):
        embedded(model, *INPUTS)


def test_a_client_that_goes_takes_its_texts_along() -> None:
    def script(requests: list[Request]) -> Iterable[Event | None]:
        yield from backwards(requests[-1:])
        while True:
            yield None

    async def run() -> None:
        task = asyncio.create_task(model.embed(Embedding("m", INPUTS, client="c")))
        while not worker.requests:
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert worker.stream.closed and not worker.admission._counts

    model, worker = model_of(script)
    asyncio.run(run())


def test_a_chat_model_says_that_it_embeds() -> None:
    model, _ = model_of(backwards)
    assert {"completion", "embedding"} <= {*model.traits.capabilities}
