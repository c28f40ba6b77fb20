"""Answers whole, streamed, refused and counted, by a toy backend; where a body is decoded."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import openai
import pytest
from anthropic import Anthropic, APIStatusError
from msgspec import structs

from bessemer.engine.request import Refusal
from bessemer.http.about import about
from bessemer.http.backends import Backends
from bessemer.http.body import FREE, Body, BodyBudget
from bessemer.http.endpoints import DIALECTS
from bessemer.http.framing import FRAMINGS
from bessemer.http.handlers.answers import (
    QUICK,
    CountTokens,
    Generate,
    decode_body,
    identity,
)
from bessemer.http.handlers.embeddings import OPENAI, RERANK, CreateEmbeddings, RankDocuments
from bessemer.http.hub import BUILT_IN
from bessemer.http.message import HttpRequest, Response, StreamingResponse
from bessemer.translate import anthropic
from bessemer.translate.chat import (
    Answer,
    Event,
    Failure,
    GenerateRequest,
    GenerationOptions,
    Identity,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenText,
)
from bessemer.translate.dialect import ServerEvent, StreamEncoder
from bessemer.translate.openai_embeddings import Embedding, Vectors
from bessemer.translate.output import LARGE as LARGE_ANSWER
from bessemer.translate.output import Collector
from bessemer.translate.rerank import Ranking, Scores
from tests.http import toy
from tests.http.toy import ToyBackend
from tests.http.toy_server import post, serving

WHO, PLAIN = Identity("x-1", 7, "toy"), GenerationOptions()
LARGE = FREE + QUICK
HI: list[Any] = [{"role": "user", "content": "Hi"}]


def request(body: Any) -> HttpRequest:
    return HttpRequest(
        "POST", "/", "", (), Body(json.dumps(body).encode()), "192.0.2.7", "req_1", "key:a"
    )


def test_an_answer_is_whole_or_a_stream_and_its_backend_knows_the_caller() -> None:
    model = ToyBackend("toy")
    generate = Generate(toy.DIALECT, Backends({"org/toy": model}))

    async def chunks(stream: bool) -> list[bytes]:
        reply = await generate(request({"model": "toy", "say": "Hi", "stream": stream}))
        if isinstance(reply, Response):
            return [reply.body]
        assert dict(reply.headers)[b"cache-control"] == b"no-cache"
        return [chunk async for chunk in reply.chunks]

    assert asyncio.run(chunks(False)) == [b'{"by":"toy","said":"Hello there"}']
    pieces = [b'{"piece":"Hello "}\n', b'{"piece":"there"}\n', b'{"by":"toy"}\n']
    assert asyncio.run(chunks(True)) == pieces
    assert [each.client for each in model.requests] == ["key:a"] * 2 and model.closed == 2


@dataclass
class Frugal(ToyBackend):
    """Notes whether a body counts when it is asked, and how it goes on."""

    budget: BodyBudget = field(default_factory=lambda: BodyBudget(2 * LARGE))
    counts: list[bool] = field(default_factory=list)

    async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        async for event in super().events(request):
            self.counts.append(self.counted)
            yield event

    async def embed(self, request: Embedding) -> Vectors:
        self.counts.append(self.counted)
        return await super().embed(request)

    async def rerank(self, request: Ranking) -> Scores:
        self.counts.append(self.counted)
        return await super().rerank(request)

    @property
    def counted(self) -> bool:
        try:
            self.budget.take(2 * LARGE)
        except Refusal:
            return True
        self.budget.give(2 * LARGE)
        return False


@pytest.mark.parametrize("stream", [False, True])
def test_a_large_body_counts_until_its_prompt_is_read(stream: bool) -> None:
    model = Frugal("toy")

    async def run() -> None:
        large = request({"model": "toy", "say": "x" * LARGE, "stream": stream})
        body = Body(budget=model.budget)
        body.add(large.body.take(), 2 * LARGE)
        generate = Generate(toy.DIALECT, Backends({"toy": model}))
        reply = await generate(structs.replace(large, body=body))
        if isinstance(reply, StreamingResponse):
            assert not model.counted
            await reply.chunks.aclose()

    asyncio.run(run())
    assert model.counts[0] and not any(model.counts[1:])


@pytest.mark.parametrize(
    "handler", [partial(CreateEmbeddings, OPENAI), partial(RankDocuments, RERANK)]
)
def test_inputs_count_until_they_are_decoded(handler: Any) -> None:
    model = Frugal("toy")

    async def run() -> None:
        text = "x" * LARGE
        large = request({"model": "toy", "input": text, "query": "a", "documents": [text]})
        body = Body(budget=model.budget)
        body.add(large.body.take(), 3 * LARGE)
        await handler(Backends({"toy": model}))(structs.replace(large, body=body))

    asyncio.run(run())
    assert model.counts == [False]


def test_a_stream_that_is_given_up_gives_up_its_backend() -> None:
    model = ToyBackend("toy")

    async def run() -> None:
        generate = Generate(toy.DIALECT, Backends({"toy": model}))
        reply = await generate(request({"model": "toy", "say": "Hi", "stream": True}))
        assert isinstance(reply, StreamingResponse)
        await anext(reply.chunks)
        assert model.closed == 0
        await reply.chunks.aclose()

    asyncio.run(run())
    assert model.closed == 1


def test_tokens_are_counted_by_the_model_that_is_named() -> None:
    dialect = anthropic.DIALECT.count
    assert dialect is not None
    count = CountTokens(dialect, Backends({"toy": ToyBackend("toy")}))
    reply = asyncio.run(count(request({"model": "toy", "messages": HI})))
    assert (reply.status, reply.body) == (200, b'{"input_tokens":42}')
    with pytest.raises(Refusal) as caught:
        asyncio.run(count(request({"model": "none", "messages": HI})))
    assert caught.value.code == "model_not_found"


def test_only_a_large_body_leaves_the_event_loop() -> None:
    async def threads() -> list[int]:
        return [
            await decode_body(lambda _: threading.get_ident(), Body(b"x" * size))
            for size in (0, QUICK - 1, QUICK)
        ]

    empty, small, large = asyncio.run(threads())
    assert empty == small == threading.get_ident() != large


TOLD = TextDelta(0, "Hi", (TokenText("Hi", b"Hi", -1.0),))


@pytest.mark.parametrize(
    ("said", "beside"),
    [
        (TextDelta(0, "Hi"), False),
        (TextDelta(0, "a" * LARGE_ANSWER), True),
        (ReasoningDelta(0, "a" * LARGE_ANSWER), True),
        (TOLD, True),
        (PromptLogprobs(0, ((),)), True),
    ],
)
def test_large_answers_are_encoded_beside_the_event_loop_one_at_a_time(
    said: Event, beside: bool
) -> None:
    inside, most, threads = 0, 0, set[int]()

    def encode(answer: Answer, who: Identity) -> bytes:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threads.add(threading.get_ident())
        time.sleep(0.01)  # lets the other come in, where it may
        inside -= 1
        return b"{}"

    async def main() -> None:
        dialect = replace(DIALECTS["/v1/chat/completions"], encode_response=encode)
        model = ToyBackend("toy", (said, *toy.TEXT[-2:]))
        generate = Generate(dialect, Backends({"toy": model}))
        body = {"model": "toy", "messages": HI}
        await asyncio.gather(*(generate(request(body)) for _ in range(3)))

    asyncio.run(main())
    assert most == 1 and threads
    assert (threading.get_ident() not in threads) == beside


def test_a_whole_answer_is_encoded_before_its_backend_lets_go_of_it() -> None:
    """What streams keep counts until it is encoded: see event_stream.Backlog."""
    order: list[str] = []

    class Keeping(ToyBackend):
        async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
            try:
                async for event in super().events(request):
                    yield event
            finally:
                order.append("closed")

    def encode(answer: Answer, who: Identity) -> bytes:
        order.append("encoded")
        return b"{}"

    dialect = replace(DIALECTS["/v1/chat/completions"], encode_response=encode)
    body = {"model": "toy", "messages": HI}
    for said in (toy.TEXT, (TOLD, *toy.TEXT)):
        order.clear()
        model = Keeping("toy", said)
        generate = Generate(dialect, Backends({"toy": model}))
        asyncio.run(generate(request(body)))  # type: ignore[arg-type]
        assert order == ["encoded", "closed"]


def test_every_answer_has_an_id_of_its_own() -> None:
    first, second = (identity("cmpl-", ToyBackend("toy")) for _ in range(2))
    assert first.id != second.id and len(first.id) == len("cmpl-") + 24
    assert first.id.startswith("cmpl-") and first.model == "toy" and first.created > 1_700_000_000


def test_an_answer_has_the_fingerprint_of_its_models_files() -> None:
    told = about(BUILT_IN)
    assert identity("cmpl-", ToyBackend("toy", about=told)).fingerprint == told.fingerprint
    assert identity("cmpl-", ToyBackend("toy")).fingerprint == "", "they are not read yet"


@pytest.mark.parametrize("path", [*DIALECTS, "/toy"])
def test_a_backend_that_refuses_before_its_first_event_and_after(path: str) -> None:
    body = {"model": "toy", "messages": HI, "max_tokens": 9, "prompt": "Hi", "say": "Hi"}
    dialect = {**DIALECTS, "/toy": toy.DIALECT}[path]
    for breaks, streams in ((0, False), (0, True), (3, False)):
        model = ToyBackend("toy", breaks=breaks)
        with serving(model, dialects={"/toy": toy.DIALECT}) as port:
            status, headers, answer = post(port, path, body | {"stream": streams})
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"Toys break." in answer and model.closed == 1
    model = ToyBackend("toy", breaks=3)
    with serving(model, dialects={"/toy": toy.DIALECT}) as port:
        status, _, answer = post(port, path, body | {"stream": True})
    assert status == 200 and b"Toys break." in answer.rstrip().splitlines()[-1]
    assert model.closed == 1 and dialect.framing in ("sse", "ndjson")


@dataclass
class Flawed:
    """A stream whose dialect has a bug: it does not know what a deltas' event is."""

    inner: StreamEncoder

    def encode(self, event: Event) -> Iterator[ServerEvent]:
        yield from self.inner.encode(event)
        if isinstance(event, TextDelta):
            raise KeyError("secret")


@pytest.mark.parametrize("framing", ["sse", "ndjson", "json"])
@pytest.mark.parametrize("path", DIALECTS)
def test_a_bug_in_a_stream_ends_it_with_the_dialects_own_error(path: str, framing: Any) -> None:
    dialect = DIALECTS[path]
    flawed = replace(
        dialect, framing=framing, stream=lambda who, options: Flawed(dialect.stream(who, options))
    )
    model = ToyBackend("toy")
    body = {"model": "toy", "messages": HI, "max_tokens": 9, "prompt": "Hi", "stream": True}
    if path in ("/v1/completions", "/api/generate"):
        del body["messages"]
    else:
        del body["prompt"]
    with serving(model, dialects={path: flawed}) as port:
        status, _, answer = post(port, path, body)
        assert post(port, path, body)[0] == 200  # the server goes on
    assert status == 200 and model.closed == 2 and b"secret" not in answer
    refusal = Refusal(500, "internal_error", "Internal server error.")
    (said,) = (event for event in dialect.stream(WHO, PLAIN).encode(Failure(refusal)))
    assert said.data == dialect.encode_error(refusal, None)
    framer = FRAMINGS[framing]()
    if framing == "json":
        assert json.loads(answer)[-1] == json.loads(said.data)
    else:
        assert answer.endswith(framer.frame(said))
    assert b"there" not in answer  # nothing after what went wrong


@pytest.mark.parametrize("path", DIALECTS)
def test_a_bug_in_a_whole_answer_is_a_500_in_the_dialects_words(path: str) -> None:
    def broken(answer: Answer, who: Identity) -> bytes:
        raise KeyError("secret")

    dialect = replace(DIALECTS[path], encode_response=broken)
    body = {"model": "toy", "messages": HI, "max_tokens": 9, "prompt": "Hi", "stream": False}
    with serving(ToyBackend("toy"), dialects={path: dialect}) as port:
        status, headers, answer = post(port, path, body)
    refusal = Refusal(500, "internal_error", "Internal server error.")
    assert (status, answer) == (500, dialect.encode_error(refusal, headers["request-id"]))


def test_both_packages_raise_what_a_broken_stream_says() -> None:
    broken = (*toy.TEXT[:3], TextDelta(0, "\udc00"))  # half of a pair cannot be encoded
    with serving(ToyBackend("toy", broken)) as port:
        url = f"http://127.0.0.1:{port}"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            for create in (
                lambda: client.chat.completions.create(model="toy", messages=HI, stream=True),
                lambda: client.completions.create(model="toy", prompt="Hi", stream=True),
            ):
                with pytest.raises(openai.APIError, match="Internal server error"):
                    list(create())
        with (
            Anthropic(base_url=url, api_key="none", max_retries=0) as claude,
            pytest.raises(APIStatusError, match="Internal server error"),
            claude.messages.stream(model="toy", messages=HI, max_tokens=9) as stream,
        ):
            stream.until_done()


def test_a_dialect_may_want_its_stream_as_one_document() -> None:
    dialect = replace(toy.DIALECT, framing="json")
    with serving(ToyBackend("toy"), dialects={"/toy": dialect}) as port:
        _, headers, body = post(port, "/toy", {"model": "toy", "say": "Hi", "stream": True})
    assert headers["content-type"] == "application/json"
    assert [list(each) for each in json.loads(body)] == [["piece"], ["piece"], ["by"]]


@pytest.mark.parametrize("how", ["encoded", "refused", "left"])
def test_log_probabilities_are_let_go_of_beside_the_event_loop(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To free very many at once would hold up all others."""
    cleared = threading.Event()

    def clear(_: Collector) -> None:
        assert threading.current_thread() is not threading.main_thread()
        cleared.set()

    class Silent(ToyBackend):
        async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
            yield TOLD
            await asyncio.sleep(100)

    async def main() -> None:
        model = Silent("toy") if how == "left" else ToyBackend("toy", (TOLD, *toy.TEXT))
        model.breaks = 2 if how == "refused" else None
        generate = Generate(DIALECTS["/v1/chat/completions"], Backends({"toy": model}))
        answering = asyncio.ensure_future(
            generate(request({"model": "toy", "messages": HI}))  # type: ignore[arg-type]
        )
        if how == "left":
            await asyncio.sleep(0.01)
            answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)

    monkeypatch.setattr(Collector, "clear", clear)
    asyncio.run(main())
    assert cleared.is_set()
