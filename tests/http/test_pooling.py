"""Models that embed or rank as backends, over a worker that follows a script."""

import asyncio
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import pytest

from bessemer.engine.admission import Admission
from bessemer.engine.request import Embed, Embedded, Event, Rank, Ranked, Refusal, Refused
from bessemer.http.pooling import EmbeddingBackend, RerankBackend
from bessemer.translate.chat import Chat
from bessemer.translate.openai_embeddings import Embedding, Vectors
from bessemer.translate.rerank import Ranking, Scores
from tests.http.scripted_backend import ScriptedWorker, writer
from tests.translate.test_answer import HELLO, says


def test_vectors_and_scores_come_in_the_order_of_what_was_asked() -> None:
    def vectors(requests: list[Embed]) -> Iterable[Event | None]:
        assert (requests[0].client, requests[0].inputs) == ("c", ["a", [5], "b"])
        yield Embedded(1, [2, 0], b"ccccaaaa", 3, False)
        yield None
        yield Embedded(1, [1], b"bbbb", 2, True)

    def scores(requests: list[Rank]) -> Iterable[Event | None]:
        assert (requests[0].client, requests[0].documents) == ("c", ["x", "y"])
        yield Ranked(1, [1], [0.5], 3, False)
        yield Ranked(1, [0], [0.25], 2, True)

    embeds: Any = ScriptedWorker(vectors)
    answer = asyncio.run(
        EmbeddingBackend("e", 0, embeds).embed(Embedding("e", ("a", (5,), "b"), client="c"))
    )
    assert answer == Vectors([b"aaaa", b"bbbb", b"cccc"], 5, answer.duration) and answer.duration
    assert embeds.stream.closed
    ranks: Any = ScriptedWorker(scores)
    ranking = Ranking("r", "q", ("x", "y"), client="c")
    assert asyncio.run(RerankBackend("r", 0, ranks).rerank(ranking)) == Scores([0.25, 0.5], 5)
    assert ranks.stream.closed


def test_a_model_is_asked_for_what_it_is_for_alone() -> None:
    model, fleet = writer(says(""))
    worker: Any = fleet
    embeds, ranks = EmbeddingBackend("e", 0, worker), RerankBackend("r", 0, worker)
    chat, texts, ranking = Chat("m", HELLO), Embedding("m", ("a",)), Ranking("m", "q", ("d",))
    wrong: list[tuple[Any, str]] = [
        (lambda: embeds.events(chat), "embeds texts"),
        (lambda: ranks.events(chat), "ranks documents"),
        (lambda: asyncio.run(embeds.count(chat)), "embeds texts"),
        (lambda: asyncio.run(model.rerank(ranking)), "writes answers, embeds texts"),
        (lambda: asyncio.run(ranks.embed(texts)), "ranks documents"),
        (lambda: asyncio.run(embeds.rerank(ranking)), "embeds texts"),
    ]
    for call, does in wrong:
        with pytest.raises(Refusal, match=does) as caught:
            call()
        assert (caught.value.status, caught.value.field) == (400, "model")


@pytest.mark.parametrize("wrong", [False, True])
def test_texts_are_counted_while_they_are_embedded(wrong: bool) -> None:
    def vectors(requests: list[Embed]) -> Iterable[Event]:
        with pytest.raises(Refusal):
            worker.admission.enter("a", 1)
        if wrong:
            yield Refused(requests[0].id, 503, "worker_died", "gone")
        yield Embedded(requests[0].id, [0], bytes(4), 1, True)

    worker: Any = ScriptedWorker(vectors)
    worker.admission = Admission(1, 0)
    model = EmbeddingBackend("m", 7, worker)
    for _ in range(3):
        with pytest.raises(Refusal) if wrong else nullcontext():
            asyncio.run(model.embed(Embedding("m", ("fish",), client="a")))


def test_the_worker_is_told_all_that_was_asked_of_texts() -> None:
    def vectors(requests: list[Embed]) -> Iterable[Event]:
        work = requests[0]
        assert (work.dimensions, work.prompt, work.truncate) == (1, "query", True)
        yield Embedded(1, [0], b"aaaa", 3, True)

    def scores(requests: list[Rank]) -> Iterable[Event]:
        assert (requests[0].query, requests[0].prompt, requests[0].truncate) == ("q", "p", True)
        yield Ranked(1, [0], [0.5], 3, True)

    embeds: Any = ScriptedWorker(vectors)
    texts = Embedding("e", ("a",), dimensions=1, prompt="query", truncate=True)
    assert asyncio.run(EmbeddingBackend("e", 0, embeds).embed(texts)).tokens == 3
    ranks: Any = ScriptedWorker(scores)
    ranking = Ranking("r", "q", ("x",), prompt="p", truncate=True)
    assert asyncio.run(RerankBackend("r", 0, ranks).rerank(ranking)).tokens == 3
