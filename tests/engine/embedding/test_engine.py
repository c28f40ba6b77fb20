"""Many embedding and reranking requests at once: right, in turn, each refused by itself."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from bessemer.engine.admission import Admission
from bessemer.engine.embedding.engine import EmbeddingEngine
from bessemer.engine.embedding.inputs import Input
from bessemer.engine.embedding.model import Embedder, Reranker
from bessemer.engine.embedding.pooling import Floats
from bessemer.engine.request import (
    Embed,
    Embedded,
    Event,
    Rank,
    Ranked,
    Refusal,
    Refused,
    StepReport,
)
from tests.engine.loading import load_embedder, load_reranker

from ..tiny_embedders import EMBEDDERS, QUERY, RERANKERS, TEXTS

CUT = "mean_normalized_cut"
GIVEN = [text for text in TEXTS if text]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return load_embedder(EMBEDDERS[CUT].write(tmp_path_factory.mktemp("embedder")))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return load_reranker(RERANKERS["raw"].write(tmp_path_factory.mktemp("reranker")))


class Desk:
    """An engine as the worker drives it, but step by step."""

    def __init__(self, model: Embedder | Reranker, batch_tokens: int, queue: int) -> None:
        self.woken: SimpleQueue[None] = SimpleQueue()
        admission = Admission(1, queue - 1)
        self.engine = EmbeddingEngine(model, batch_tokens, admission, lambda: self.woken.put(None))

    def submit(self, *requests: Embed | Rank) -> None:
        """Submit requests, and wait until all of them are read."""
        for request in requests:
            self.engine.submit(request)
        for _ in requests:
            self.woken.get(timeout=20)

    def run(self) -> list[list[Event]]:
        """The events of each step, until nothing is left."""
        steps = []
        while self.engine.busy:
            steps.append(self.engine.step())
        return steps


@contextmanager
def desk(model: Embedder | Reranker, batch_tokens: int = 40, queue: int = 50) -> Iterator[Desk]:
    out = Desk(model, batch_tokens, queue)
    try:
        yield out
    finally:
        out.engine.close()


def embed(number: int, inputs: Sequence[str | list[int]] = ("the cat",), **more: Any) -> Embed:
    truncate = more.pop("truncate", True)
    return Embed(id=number, inputs=list(inputs), truncate=truncate, **more)


def flat(steps: list[list[Event]]) -> list[Event]:
    return [event for step in steps for event in step]


def vectors(events: list[Event], number: int) -> Floats:
    out: dict[int, Floats] = {}
    mine = [each for each in events if isinstance(each, Embedded) and each.request == number]
    for event in mine:
        parts = np.frombuffer(event.vectors, "<f4").reshape(len(event.rows), -1)
        out |= dict(zip(event.rows, parts, strict=True))
    assert [event.over for event in mine] == [False] * (len(mine) - 1) + [True]
    return np.stack([out[row] for row in range(len(out))])


def test_many_at_once_are_as_good_as_alone(embedder: Embedder) -> None:
    requests = [
        embed(1, GIVEN),
        embed(2, GIVEN[:2], prompt="query"),
        embed(3, GIVEN[::-1], dimensions=7),
        embed(4, [[5, 9, 11], [4]]),
    ]
    with desk(embedder) as each:
        each.submit(*requests)
        events = flat(each.run())
    for request in requests:
        alone = embedder.embed(request.inputs, request.dimensions, request.prompt)
        assert vectors(events, request.id).shape == alone.shape
        assert np.abs(vectors(events, request.id) - alone).max() < 1e-5
    tokens = sum(e.tokens for e in events if isinstance(e, Embedded) and e.request == 2)
    assert tokens == sum(len(p.tokens) for p in embedder.read(GIVEN[:2], "query"))


def test_scores_at_once_are_as_good_as_alone(reranker: Reranker) -> None:
    with desk(reranker) as each:
        each.submit(
            *(Rank(id=n, query=QUERY, documents=list(TEXTS), truncate=True) for n in (1, 2))
        )
        events = flat(each.run())
    alone = reranker.score(QUERY, TEXTS)
    for number in (1, 2):
        mine = [e for e in events if isinstance(e, Ranked) and e.request == number]
        out = {row: score for e in mine for row, score in zip(e.rows, e.scores, strict=True)}
        assert [out[row] for row in range(len(TEXTS))] == pytest.approx(alone, abs=1e-5)
        pairs = reranker.read(QUERY, TEXTS)
        assert sum(e.tokens for e in mine) == sum(len(pair.tokens) for pair in pairs)


def test_batches_hold_so_many_tokens_and_no_more(embedder: Embedder) -> None:
    with desk(embedder, batch_tokens=20) as each:
        each.submit(embed(1, [[4] * length for length in (12, 12, 8, 3, 5, 9)]))
        taken = [[e.rows for e in step if isinstance(e, Embedded)] for step in each.run()]
    assert taken == [[[0]], [[1, 2]], [[3, 4, 5]]]
    with desk(embedder, batch_tokens=5) as each:
        each.submit(embed(1, [[4] * 12, [4] * 3]))
        assert len(each.run()) == 2


def test_a_small_request_does_not_wait_for_a_large_one(embedder: Embedder) -> None:
    with desk(embedder, batch_tokens=24) as each:
        each.submit(embed(1, [[5] * 12] * 9))
        each.submit(embed(2, [[6] * 12]))
        each.submit(embed(3, [[7] * 12], dimensions=5))
        steps = [[(e.request, e.over) for e in step] for step in each.run()]  # type: ignore[union-attr]
    assert steps[0] == [(1, False), (2, True)] and (3, True) in steps[1] + steps[2]


def test_clients_take_turns_however_many_requests_one_of_them_has(embedder: Embedder) -> None:
    for more, rows in (({}, [[0], [1], [2]]), ({"dimensions": 5}, [[0, 1], [2]])):
        with desk(embedder, batch_tokens=24) as each:
            for number in range(6):
                each.submit(embed(number, [[5] * 12] * 3, client="flood"))
            each.submit(embed(9, [[6] * 12] * 3, client="small", **more))
            steps = [[e for e in step if isinstance(e, Embedded)] for step in each.run()]
        first = [event.rows for step in steps[:4] for event in step if event.request == 9]
        assert first == rows
        assert sum(len(e.rows) for step in steps for e in step) == 7 * 3


def test_what_is_cancelled_is_never_heard_of_again(embedder: Embedder) -> None:
    with desk(embedder, batch_tokens=24, queue=2) as each:
        each.submit(embed(1, [[5] * 12] * 5), embed(2, [[6] * 12]))
        each.engine.step()
        each.engine.cancel(1)
        each.engine.cancel(1)
        each.engine.cancel(77)
        assert not each.engine.busy
        each.submit(embed(3), embed(4))
        each.engine.cancel(3)
        assert {event.request for event in flat(each.run())} == {4}


def test_too_many_are_refused(embedder: Embedder) -> None:
    with desk(embedder, queue=2) as each:
        each.submit(embed(1), embed(2))
        with pytest.raises(Refusal) as caught:
            each.engine.submit(embed(3))
        assert (caught.value.status, caught.value.code) == (503, "overloaded")
        each.run()
        each.submit(embed(3))


@pytest.mark.parametrize(
    ("bad", "code", "words"),
    [
        (embed(1, ["fish", "the " * 50], truncate=False), "context_length_exceeded", "input[1]: "),
        (embed(1, [[5], [4] * 13], truncate=False), "context_length_exceeded", "takes 12; shorten"),
        (embed(1, [[5], [10**6]]), "invalid_value", "input[1]: token 1000000"),
        (embed(1, [[5], [10**6]], truncate=False), "invalid_value", "token 1000000"),
        (embed(1, [[]]), "invalid_value", "is empty"),
        (embed(1, prompt="none"), "invalid_value", "no prompt named 'none'; its prompts: query."),
    ],
)
def test_a_bad_input_refuses_its_own_request(
    embedder: Embedder, bad: Embed, code: str, words: str
) -> None:
    with desk(embedder) as each:
        each.submit(bad, embed(2))
        events = flat(each.run())
    refused = next(event for event in events if isinstance(event, Refused))
    assert (refused.request, refused.status, refused.code) == (1, 400, code)
    assert words in refused.message and refused.field == "input"
    assert vectors(events, 2).shape == (1, 48)


def test_what_needs_no_reading_is_refused_at_once(embedder: Embedder, reranker: Reranker) -> None:
    wrong: list[tuple[Embedder | Reranker, Embed | Rank, str | None]] = [
        (embedder, embed(1, dimensions=49), "dimensions"),
        (embedder, embed(1, dimensions=0), "dimensions"),
        (embedder, embed(1, []), None),
        (embedder, Rank(id=1, query="a", documents=["b"]), "model"),
        (reranker, Rank(id=1, query="a", documents=[]), None),
        (reranker, embed(1), "model"),
    ]
    for model, request, name in wrong:
        with desk(model) as each:
            with pytest.raises(Refusal) as caught:
                each.engine.submit(request)
            assert (caught.value.status, caught.value.field) == (400, name)
            assert not each.engine.busy
    for dimensions in (1, 48):
        with desk(embedder) as each:
            each.submit(embed(1, dimensions=dimensions))
            assert vectors(flat(each.run()), 1).shape == (1, dimensions)


@dataclass
class Broken:
    """A backbone that does badly what it is told to, for inputs with a certain token."""

    inner: Any
    does: Any

    @property
    def width(self) -> int:
        return int(self.inner.width)

    def __call__(self, batch: Sequence[Input]) -> list[Floats]:
        out: list[Floats] = self.inner(batch)
        return [
            self.does(rows) if 7 in p.tokens else rows for p, rows in zip(batch, out, strict=True)
        ]


def test_a_batch_that_fails_refuses_what_was_in_it(
    embedder: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(rows: Floats) -> Floats:
        raise RuntimeError("[malloc] no memory")

    with desk(replace(embedder, backbone=Broken(embedder.backbone, fail)), batch_tokens=3) as each:
        each.submit(embed(1, [[7], [7] * 3]), embed(2, [[5] * 3]))
        events = flat(each.run())
    assert [(e.request, e.status) for e in events if isinstance(e, Refused)] == [(1, 500)]
    assert vectors(events, 2).shape == (1, 48)
    assert "no memory" in capsys.readouterr().err


def test_vectors_that_are_no_numbers_are_refused(embedder: Embedder) -> None:
    broken = Broken(embedder.backbone, lambda rows: rows * np.float32("nan"))
    with desk(replace(embedder, backbone=broken)) as each:
        each.submit(embed(1, [[7]]), embed(2, [[5]]))
        events = flat(each.run())
    assert [(e.request, e.code) for e in events if isinstance(e, Refused)] == [(1, "numerics")]
    assert vectors(events, 2).shape == (1, 48)


@dataclass
class SlowReader:
    """Waits at each text until it may go on; some make it fail."""

    seen: list[str] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    may: threading.Event = field(default_factory=threading.Event)

    def text(self, text: str, prompt: str | None, truncate: bool) -> Input:
        self.seen.append(text)
        self.begun.set()
        self.may.wait(20)
        if text == "bad":
            raise Exception("what the tokenizers package raises")
        return Input([5], [0])


def test_a_cancelled_request_is_not_read_to_its_end(embedder: Embedder) -> None:
    reader: Any = SlowReader()
    with desk(replace(embedder, reader=reader)) as each:
        for number in range(4):
            each.engine.submit(embed(number, [f"{number}"] * 100))
        assert reader.begun.wait(20) and not each.engine.busy
        for number in range(4):
            each.engine.cancel(number)
        reader.may.set()
        for _ in range(4):
            each.woken.get(timeout=20)
        assert each.engine.step() == [] and not each.engine.busy
        assert len(reader.seen) <= 2


def test_a_tokenizer_that_fails_refuses_its_own_request(
    embedder: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    reader: Any = SlowReader()
    reader.may.set()
    with desk(replace(embedder, reader=reader)) as each:
        each.submit(embed(1, ["bad"]), embed(2, ["good"]))
        events = flat(each.run())
    assert [(e.request, e.code) for e in events if isinstance(e, Refused)] == [(1, "tokenizer")]
    assert vectors(events, 2).shape == (1, 48)
    assert "tokenizers package" in capsys.readouterr().err


def test_a_report_counts_what_waits_for_the_tokenizer_and_what_runs(embedder: Embedder) -> None:
    with desk(embedder, batch_tokens=40) as each:
        each.submit(embed(1, [[5] * 10] * 6), embed(2, [[5] * 10]))
        assert each.engine.report() == StepReport(waiting=2)
        each.engine.step()
        first = each.engine.report()
        assert (first.rows, first.running, first.waiting, first.pages) == (40, 1, 0, 0)
        assert first.prepare > 0 and first.forward > 0 and first.accept > 0
        each.run()
        assert (each.engine.report().rows, each.engine.report().running) == (30, 0)
        each.engine.step()
        assert each.engine.report() == StepReport()
