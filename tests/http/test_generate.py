"""The joint between conversation and engine, over a worker that follows a script."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any

import pytest

from bessemer.engine.memory import Plan
from bessemer.engine.request import (
    Event,
    Refusal,
    Refused,
    Request,
    Sampling,
    Token,
    TokenLogprobs,
)
from bessemer.engine.request import Started as Admitted
from bessemer.engine.tokenizer import Tokenizer, load
from bessemer.engine.wire import VERSION, Ready
from bessemer.http.backends import Backends, Encoder, Local, Measure
from bessemer.http.generate import Patience, answer, count
from bessemer.http.hub import BUILT_IN
from bessemer.translate.chat import (
    Chat,
    Completion,
    Done,
    Finish,
    Heartbeat,
    Message,
    Options,
    Started,
    TextDelta,
)
from bessemer.translate.chat import Event as Said
from bessemer.translate.template import ChatTemplate, pick

WORDS: Tokenizer = load(BUILT_IN)
TEMPLATE = ChatTemplate(pick(WORDS.chat_template or ""), special_tokens=WORDS.special_tokens)
HELLO = (Message("user", "Hello"),)
Script = Callable[[list[Request]], Iterable[Event | None]]


class ScriptedTicket:
    def __init__(self, events: Iterable[Event | None]) -> None:
        self.events = iter(events)
        self.closed = False

    async def next(self) -> Event | None:
        await asyncio.sleep(0.002)
        return next(self.events, None)

    def close(self) -> None:
        self.closed = True


class ScriptedWorker:
    """What http.fleet.Worker shows to the joint."""

    def __init__(self, script: Script, defaults: Sampling | None = None) -> None:
        self.script = script
        self.asked: list[Request] = []
        self.ready = Ready(VERSION, Plan(0, 0, 0, 0, 0, 200), "llama", defaults or Sampling())
        self.ticket = ScriptedTicket([])

    async def available(self, patience: float) -> Ready:
        return self.ready

    def number(self) -> int:
        return len(self.asked) + 100 + id(object()) % 1000 * 1000

    def open(self, requests: Iterable[Request], tick: float) -> ScriptedTicket:
        self.asked = list(requests)
        self.ticket = ScriptedTicket(self.script(self.asked))
        return self.ticket


def local(script: Script, **more: Any) -> tuple[Local, ScriptedWorker]:
    worker = ScriptedWorker(script, **more)
    numbers = iter(range(1, 1000))
    worker.number = lambda: next(numbers)  # type: ignore[method-assign]
    return Local("m", 0, worker, WORDS, TEMPLATE), worker  # type: ignore[arg-type]


def says(text: str, finish: str = "stop") -> Script:
    """Every request is answered with this text, a token a step."""

    def script(requests: list[Request]) -> Iterable[Event | None]:
        tokens = WORDS.encode(text, special=False)
        for request in requests:
            yield Admitted(request.id, 32)
        for at, token in enumerate(tokens):
            for request in requests:
                yield Token(request.id, [token], finish if at == len(tokens) - 1 else None)

    return script


def events(place: Local, ask: Chat | Completion, patience: Patience | None = None) -> list[Said]:
    async def run() -> list[Said]:
        async with aclosing(answer(place, ask, 50, patience or Patience())) as found:
            return [event async for event in found]

    return asyncio.run(run())


def text(found: list[Said], choice: int = 0) -> str:
    return "".join(e.text for e in found if isinstance(e, TextDelta) and e.choice == choice)


def test_started_first_then_text_finish_and_usage() -> None:
    place, worker = local(says("Hello there"))
    found = events(place, Chat("m", HELLO))
    assert isinstance(found[0], Started) and found[0].usage.cached == 32
    assert text(found) == "Hello there"
    assert found[-2] == Finish(0, "stop") and isinstance(found[-1], Done)
    usage = found[-1].usage
    assert usage.prompt == len(worker.asked[0].tokens)
    assert usage.completion == len(WORDS.encode("Hello there", special=False))
    assert worker.ticket.closed


def test_what_is_not_asked_for_comes_from_the_models_defaults() -> None:
    defaults = Sampling(temperature=0.6, top_k=20, repetition_penalty=1.1)
    place, worker = local(says("Hi"), defaults=defaults)
    events(place, Chat("m", HELLO, Options(temperature=0.0, seed=7, max_tokens=5)))
    sampling = worker.asked[0].sampling
    assert sampling == Sampling(temperature=0, top_k=20, repetition_penalty=1.1, seed=7)
    events(place, Chat("m", HELLO))
    assert worker.asked[0].sampling.seed != 0


def test_an_answer_is_cut_to_the_cap_and_to_the_context() -> None:
    place, worker = local(says("Hi"))
    for asked, expected in ((None, 50), (10, 10), (10_000, 50)):
        events(place, Chat("m", HELLO, Options(max_tokens=asked)))
        assert worker.asked[0].max_tokens == expected
    ids = tuple([300] * 190)
    events(place, Completion("m", (ids,), Options(max_tokens=40)))
    assert worker.asked[0].max_tokens == 10


def test_choices_have_seeds_of_their_own() -> None:
    place, worker = local(says("Hi"))
    found = events(place, Completion("m", ("a", "b"), Options(n=2, seed=2**64 - 1)))
    assert [r.sampling.seed for r in worker.asked] == [2**64 - 1, 0, 1, 2]
    assert [text(found, choice) for choice in range(4)] == ["Hi"] * 4
    assert isinstance(found[-1], Done)
    assert found[-1].usage.prompt == sum(len(WORDS.encode(p)) for p in "ab")


def test_a_refusal_before_the_first_event_and_after() -> None:
    def refuse(requests: list[Request]) -> Iterable[Event | None]:
        yield Refused(requests[0].id, 503, "overloaded", "later")

    def break_off(requests: list[Request]) -> Iterable[Event | None]:
        yield Admitted(requests[0].id, 0)
        yield Token(requests[0].id, [300])
        yield Refused(requests[0].id, 503, "worker_died", "gone")

    for script in (refuse, break_off):
        place, worker = local(script)
        with pytest.raises(Refusal) as caught:
            events(place, Chat("m", HELLO))
        assert caught.value.status == 503 and worker.ticket.closed


def test_silence_brings_heartbeats_and_then_a_504() -> None:
    def silent(requests: list[Request]) -> Iterable[Event | None]:
        yield Admitted(requests[0].id, 0)

    async def run() -> list[Said]:
        place, _ = local(silent)
        found: list[Said] = []
        generator = answer(place, Chat("m", HELLO), 50, Patience(heartbeat=0.01, timeout=0.1))
        with pytest.raises(Refusal) as caught:
            async for event in generator:
                found.append(event)
        assert (caught.value.status, caught.value.code) == (504, "timeout")
        return found

    found = asyncio.run(run())
    assert len(found) > 1 and all(isinstance(event, Heartbeat) for event in found[1:])


def test_closing_the_answer_closes_the_ticket() -> None:
    async def run(generator: AsyncGenerator[Said, None]) -> None:
        await anext(generator)
        await generator.aclose()

    place, worker = local(says("Hello there, all of you"))
    asyncio.run(run(answer(place, Chat("m", HELLO), 50, Patience())))
    assert worker.ticket.closed


def test_hidden_tokens_and_what_stop_strings_cut_are_not_shown() -> None:
    def script(requests: list[Request]) -> Iterable[Event | None]:
        (request,) = requests
        yield Admitted(request.id, 0)
        for token in WORDS.encode("one two STOP", special=False):
            yield Token(request.id, [token])
        yield Token(request.id, [300], "stop", None, hidden=1)

    place, _ = local(script)
    ask = Completion("m", ("a",), Options(stop=(" two",)))
    assert text(events(place, ask)) == "one"
    assert text(events(place, Completion("m", ("a",)))) == "one two STOP"


def test_echo_with_logprobs_shows_every_prompt_token_once() -> None:
    def script(requests: list[Request]) -> Iterable[Event | None]:
        (request,) = requests
        yield Admitted(request.id, 0)
        entries = [TokenLogprobs(token, -1.0) for token in request.tokens[1:]]
        yield Token(request.id, [], prompt=entries[:2])
        yield Token(
            request.id, [301], "length", logprobs=[TokenLogprobs(301, -2.0)], prompt=entries[2:]
        )

    place, worker = local(script)
    prompt = "naïve 東京 café"
    found = events(place, Completion("m", (prompt,), Options(logprobs=0), echo=True))
    tokens = [t for e in found if isinstance(e, TextDelta) for t in e.tokens]
    assert text(found) == prompt + WORDS.decode([301])
    assert [t.logprob for t in tokens] == [None] + [-1.0] * (len(worker.asked[0].tokens) - 1) + [-2]
    assert b"".join(t.raw for t in tokens[:-1]).decode() == prompt


def test_hopeless_prompts_never_reach_the_tokenizer_or_the_worker() -> None:
    place, worker = local(says("Hi"))
    text_ = "x" * (200 * WORDS.longest + 1)
    for ask in (Completion("m", (text_,)), Chat("m", (Message("user", text_),))):
        with pytest.raises(Refusal) as caught:
            events(place, ask)
        assert caught.value.code == "context_length_exceeded" and not worker.asked


def test_counting_uses_the_models_own_template() -> None:
    place, _ = local(says("Hi"))
    expected = len(WORDS.encode(TEMPLATE.render(Chat("m", HELLO)), special=False))
    assert asyncio.run(count(place, Chat("m", HELLO))) == expected


def test_names_exact_first_then_the_last_part() -> None:
    first, second = local(says(""))[0], local(says(""))[0]
    backends = Backends({"org/Qwen3": first, "qwen3": second, "other/Llama": first})
    assert backends.find("org/Qwen3") is first and backends.find("qwen3") is second
    assert backends.find("LLAMA") is first and backends.find("x/llama") is first
    for unknown in ("QWEN3", "none", ""):
        with pytest.raises(Refusal) as caught:
            backends.find(unknown)
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_a_model_is_asked_for_what_it_is_for_alone() -> None:
    writer, worker = local(says(""))
    fleet: Any = worker
    embeds, ranks = Encoder("e", 0, fleet, "embed"), Encoder("r", 0, fleet, "rerank")
    backends = Backends({"w": writer, "x/e": embeds, "r": ranks})
    assert backends.writer("w") is writer
    assert backends.encoder("E", "embed") is embeds and backends.encoder("r", "rerank") is ranks
    wrong: list[tuple[str, Measure | None, str]] = [
        ("e", None, "embeds texts"),
        ("r", None, "ranks documents"),
        ("w", "embed", "writes answers"),
        ("r", "embed", "ranks documents"),
        ("e", "rerank", "embeds texts"),
    ]
    for name, purpose, does in wrong:
        with pytest.raises(Refusal, match=does) as caught:
            backends.writer(name) if purpose is None else backends.encoder(name, purpose)
        assert (caught.value.status, caught.value.field) == (400, "model")
