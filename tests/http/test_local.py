"""Local models as backends, over a worker that follows a script."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import pytest

from bessemer.engine.admission import Admission
from bessemer.engine.memory import Plan
from bessemer.engine.request import (
    Event,
    GenerationDefaults,
    Refusal,
    Refused,
    Request,
    Started,
    StepReport,
    Token,
)
from bessemer.engine.wire import VERSION, Ready
from bessemer.http.backends import Status
from bessemer.http.fleet import State
from bessemer.http.local import (
    LONG,
    MANY,
    SHORT,
    GenerationBackend,
    Patience,
    _Clock,
    _length,
)
from bessemer.translate.chat import (
    AnswerStarted,
    Chat,
    Completion,
    Done,
    GenerationOptions,
    Heartbeat,
    Message,
    ResponseFormat,
    Tool,
    ToolCall,
)
from bessemer.translate.chat import Event as Said
from bessemer.translate.parts import Text, said
from bessemer.translate.renderer import Prompt, Renderer
from tests.http.scripted_backend import Here, events, writer
from tests.translate.test_answer import (
    HELLO,
    RENDERER,
    VOCABULARY,
    prompts_of,
    says,
    text,
)


def test_an_answer_from_started_to_done() -> None:
    model, worker = writer(says("Hello there"))
    answer = events(model, Chat("m", HELLO))
    assert isinstance(answer[0], AnswerStarted) and answer[0].usage.cached == 32
    assert text(answer) == "Hello there" and isinstance(answer[-1], Done)
    assert answer[-1].usage.prompt == len(worker.requests[0].tokens)
    assert worker.stream.closed


def test_a_seed_is_the_requests_or_a_new_one() -> None:
    model, worker = writer(says("Hi"))
    seeds = set()
    for seed in (7, None, None):
        events(model, Chat("m", HELLO, GenerationOptions(seed=seed)))
        seeds.add(worker.requests[0].sampling.seed)
    assert 7 in seeds and len(seeds) == 3


def test_a_prefix_is_its_key_s_unless_they_are_shared() -> None:
    def salt(client: str, shared: bool = False, own: str = "s") -> str:
        model, worker = writer(says("Hi"))
        options = GenerationOptions(cache_salt=own)
        chat = Chat("m", HELLO, options, client=client)
        events(replace(model, share_prefixes=shared), chat)
        said: str = worker.requests[0].salt
        return said

    assert salt("key:a", shared=True) == salt("127.0.0.1") == "s"
    keyed = {salt(client, own=own) for client in ("key:a", "key:b") for own in ("s", "")}
    assert len(keyed - {"s", ""}) == 4


def test_a_refusal_before_the_first_event_and_after() -> None:
    def refuse(requests: list[Request]) -> Iterable[Event]:
        yield Refused(requests[0].id, 503, "overloaded", "later")

    def break_off(requests: list[Request]) -> Iterable[Event]:
        yield Started(requests[0].id, 0)
        yield Token(requests[0].id, [300])
        yield Refused(requests[0].id, 503, "worker_died", "gone")

    for script in (refuse, break_off):
        model, worker = writer(script)
        with pytest.raises(Refusal) as caught:
            events(model, Chat("m", HELLO))
        assert caught.value.status == 503 and worker.stream.closed


def test_silence_brings_heartbeats_and_then_a_504() -> None:
    def silent(requests: list[Request]) -> Iterable[Event]:
        yield Started(requests[0].id, 0)

    async def run() -> list[Said]:
        model, _ = writer(silent, Patience(heartbeat=0.01, timeout=0.1))
        answer: list[Said] = []
        with pytest.raises(Refusal) as caught:
            async for event in model.events(Chat("m", HELLO)):
                answer.append(event)
        assert (caught.value.status, caught.value.code) == (504, "timeout")
        return answer

    answer = asyncio.run(run())
    assert len(answer) > 1 and all(isinstance(event, Heartbeat) for event in answer[1:])


def test_a_stream_whose_tokens_say_nothing_to_its_client_has_heartbeats() -> None:
    """What is held back for a larger piece, or hidden, as a thought may be, is silence too."""

    def held(requests: list[Request]) -> Iterable[Event | None]:
        yield Started(requests[0].id, 0)
        for _ in range(40):
            yield Token(requests[0].id, [301])
            yield None  # 2 ms later
        yield Token(requests[0].id, [302], finish="length")

    model, _ = writer(held, Patience(heartbeat=0.01))
    for usage in (False, True):
        about = GenerationOptions(stream=True, max_tokens=50, stream_chunk=1000)
        options = replace(about, continuous_usage=usage)
        kinds = [type(event) for event in events(model, Chat("m", HELLO, options))]
        assert kinds.count(Heartbeat) > 2


HELD = ResponseFormat("json_object", "")


@pytest.mark.parametrize(
    ("fields", "begins"),
    [
        ({"options": GenerationOptions(stream=True)}, True),
        ({}, False),
        (
            {
                "options": GenerationOptions(stream=True),
                "response_format": ResponseFormat("json_object", ""),
            },
            False,
        ),
    ],
)
def test_a_stream_begins_before_its_request_is_admitted(
    fields: dict[str, Any], begins: bool
) -> None:
    """A whole answer does not, nor one whose grammar may still be refused."""

    def late(requests: list[Request]) -> Iterable[Event | None]:
        yield from [None] * 20  # each is a look at the clock, 2 ms after the one before
        yield from says("Hi")(requests)

    model, worker = writer(late, Patience(opening=0.01))
    answer = events(model, Chat("m", HELLO, **fields))
    assert isinstance(answer[0], Heartbeat) == begins and text(answer) == "Hi"
    assert sum(isinstance(event, Heartbeat) for event in answer) == begins
    assert worker.beats == (1.25, 0.01 if begins else 1.25)


def test_a_stream_begins_no_later_than_its_first_heartbeat_is_due() -> None:
    request = Request(id=1, tokens=[1], max_tokens=1)
    streamed = Chat("m", HELLO, GenerationOptions(stream=True))
    for patience, first in (
        (Patience(), 0.025),
        (Patience(0.02), 0.02),
        (Patience(9, 0.04), 0.025),
    ):
        assert patience.first(streamed, [request]) == first


def test_closing_the_answer_closes_the_ticket() -> None:
    async def run(generator: AsyncGenerator[Said, None]) -> None:
        await anext(generator)
        await generator.aclose()

    model, worker = writer(says("Hello there, all of you"))
    asyncio.run(run(model.events(Chat("m", HELLO))))
    assert worker.stream.closed


def test_claude_code_s_changing_line_is_no_part_of_a_prompt_unless_it_is_kept() -> None:
    def tokens(line: str, keep: bool = False) -> list[int]:
        model, worker = writer(says("Hi"))
        model = replace(model, keep_attribution=keep)
        system = Message("system", (Text(line), Text("You are Claude Code.")))
        chat = Chat("m", (system, *HELLO))
        events(model, chat)
        assert asyncio.run(model.count(chat)) == len(worker.requests[0].tokens)
        return list(worker.requests[0].tokens)

    lines = [f"x-anthropic-billing-header: cch={each};" for each in ("ab", "cde")]
    assert tokens(lines[0]) == tokens(lines[1])
    kept, other = (tokens(line, keep=True) for line in lines)
    assert kept != other and len(kept) > len(tokens(lines[0]))


def test_hopeless_prompts_never_reach_the_worker() -> None:
    model, worker = writer(says("Hi"))
    with pytest.raises(Refusal) as caught:
        events(model, Completion("m", ("x" * (200 * RENDERER.tokenizer.longest + 1),)))
    assert caught.value.code == "context_length_exceeded" and not worker.requests


def test_hopeless_conversations_never_reach_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[Chat] = []
    monkeypatch.setattr(Here, "render", lambda _, chat, limit: rendered.append(chat) or 1 / 0)
    model, _ = writer(says("Hi"))
    half = said("x" * (RENDERER.limit(200) // 2))
    chat = Chat("m", (Message("user", half), Message("assistant", half)))
    with pytest.raises(Refusal, match="far more than this model's context of 200"):
        asyncio.run(model.count(replace(chat, messages=(*chat.messages, *HELLO))))
    assert not rendered
    with pytest.raises(ZeroDivisionError):
        asyncio.run(model.count(chat))
    assert rendered


def test_counting_takes_what_is_too_long_too() -> None:
    model, worker = writer(says("Hi"))
    tokens = len(prompts_of(Chat("m", HELLO))[0].tokens)
    assert asyncio.run(model.count(Chat("m", HELLO))) == tokens
    for context in (tokens - 1, 1):
        plan = Plan(0, 0, 0, 0, 0, context)
        worker.ready = Ready(VERSION, plan, "llama", GenerationDefaults(), VOCABULARY)
        if context > 1:
            assert asyncio.run(model.count(Chat("m", HELLO))) == tokens and not worker.requests
    with pytest.raises(
        Refusal, match="this model's context of 1 tokens"
    ):  # not what is far too long
        asyncio.run(model.count(Chat("m", HELLO)))


def test_status_and_interruption_are_the_workers() -> None:
    model, worker = writer(says(""))
    assert worker.ready is not None
    plan, defaults = worker.ready.plan, worker.ready.defaults
    about = "ready", 200, "llama", plan, 1.5, StepReport(waiting=3)
    assert model.status() == Status(*about, slots=64, defaults=defaults)
    worker.ready = None
    assert model.status() == Status("restarting", retry_after=3)
    refusal = Refusal(503, "shutting_down", "The server is shutting down.")
    model.interrupt(refusal)
    assert worker.refused == [refusal]


def test_no_place_is_kept_however_an_answer_ends() -> None:
    def breaks(requests: list[Request]) -> Iterable[Event]:
        yield Started(requests[0].id, 0)
        yield Refused(requests[0].id, 503, "worker_died", "gone")

    async def run(script: Any, leave_after: int) -> None:
        model, worker = writer(script)
        worker.admission = admission = Admission(1, 2)
        for _ in range(4):
            seen = 0
            with suppress(Refusal):
                async with aclosing(model.events(Chat("m", HELLO, GenerationOptions(n=3)))) as all:
                    async for _ in all:
                        if not seen:
                            with pytest.raises(Refusal):
                                admission.enter("", 1)
                        seen += 1
                        if seen == leave_after:
                            break
        admission.enter("", 3)

    for leave_after in (1, 2, 99):
        for script in (says("Hello there"), breaks):
            asyncio.run(run(script, leave_after))


def test_what_can_never_be_taken_is_refused_before_anything_is_made_of_it() -> None:
    model, worker = writer(says("Hi"))
    request = Completion("m", ("the",) * 40, GenerationOptions(n=9), client="a")
    with pytest.raises(Refusal) as caught:
        events(model, request)
    assert (caught.value.status, caught.value.code) == (400, "too_many_sequences")
    assert not worker.requests


def test_a_cancelled_wait_for_a_place_in_line_leaves_none_behind() -> None:
    async def run() -> None:
        model, worker = writer(lambda _: [])
        worker.admission = admission = Admission(1, 0)
        for delay in (0, 0.001, 0.005, 0.02):
            answer = model.events(Chat("m", HELLO))
            task = asyncio.ensure_future(anext(answer))
            await asyncio.sleep(delay)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await answer.aclose()
            admission.enter("b")
            admission.leave("b")

    asyncio.run(run())


def test_short_prompts_go_on_beside_any_number_of_long_ones() -> None:
    class Slow(Renderer):
        def prompts(self, request: Completion, context: int, vocabulary: int) -> list[Prompt]:
            if len(request.prompts[0]) >= LONG:
                over.wait(30)
            return super().prompts(replace(request, prompts=("a",)), context, vocabulary)

    async def run() -> None:
        slow = Slow(RENDERER.tokenizer, RENDERER.format)
        model = replace(writer(says("Hello there"))[0], renderer=slow)
        long = [asyncio.create_task(first(model, "a" * LONG)) for _ in range(50)]
        await asyncio.sleep(0)  # they begin
        await asyncio.wait_for(first(model, "a"), 20)
        assert not any(task.done() for task in long)
        for task in long:
            task.cancel()
        over.set()

    async def first(model: GenerationBackend, text: str) -> list[Prompt]:
        return await model._prompts(Completion("m", (text,)), 10**6, 10**6)

    over = threading.Event()
    try:
        asyncio.run(run())
    finally:
        over.set()


def test_the_clock_is_looked_at_four_times_for_each_heartbeat_and_before_the_end() -> None:
    """Looked at once, it is a moment early each time after it was late: every other one is lost."""
    assert [Patience(5, timeout).tick for timeout in (300, 20, 4)] == [1.25, 1.25, 1]


@pytest.mark.parametrize(
    ("about", "status"),
    [
        ({"state": State.LOADING, "seconds": 0.0}, Status("loading", stage="x", retry_after=3)),
        ({"state": State.LOADING}, Status("restarting", stage="x", retry_after=3)),
        ({"state": State.RESTARTING, "seconds": 0.0}, Status("restarting", retry_after=3)),
        ({"state": State.DOWN, "why_down": "short"}, Status("down", retry_after=3, why="short")),
    ],
)
def test_a_model_that_does_not_serve_says_what_is_done(
    about: dict[str, Any], status: Status
) -> None:
    model, worker = writer(says(""))
    worker.stage, worker.ready = status.stage, None
    for name, value in about.items():
        setattr(worker, name, value)
    assert model.status() == status


def test_a_model_that_hangs_says_so() -> None:
    model, worker = writer(says(""))
    worker.hangs = True
    assert model.status().state == "not responding" and model.status().context == 200


def test_prompts_are_counted_while_no_worker_is_there() -> None:
    model, worker = writer(says("Hi"))
    tokens = asyncio.run(model.count(Chat("m", HELLO)))
    worker.ready = None
    assert asyncio.run(model.count(Chat("m", HELLO))) == tokens


CALL = ToolCall("c", "f", "x" * 7)


@pytest.mark.parametrize(
    ("messages", "length"),
    [
        ([Message("user", said("four")), Message("assistant", said("sixsix"))], 10),
        ([Message("assistant", said("four"), reasoning="fives", calls=(CALL, CALL))], 23),
        ([Message("user", said("x"))] * MANY, MANY),
        ([Message("user", said("x"))] * (MANY + 1), LONG),
    ],
)
def test_a_conversation_takes_time_by_all_that_its_template_sees(
    messages: list[Message], length: int
) -> None:
    chat = Chat("m", tuple(messages))
    assert _length(chat) == length
    for more in ({"tools": (Tool("f"),)}, {"template": {"a": 1}}):
        assert _length(replace(chat, **more)) == max(length, SHORT)  # type: ignore[arg-type]


@pytest.mark.parametrize(("delay", "first"), [(0.025, 0.025), (5.0, None)])
def test_a_timer_that_is_over_is_due_whenever_it_began(delay: float, first: float | None) -> None:
    """The loop's clock counts milliseconds; sums of floats may lie just beyond what it shows."""

    class Loop(asyncio.SelectorEventLoop):
        now = 0.0

        def time(self) -> float:
            return self.now

    async def main(loop: Loop) -> None:
        for began in range(1_000, 3_000):
            loop.now = began / 1000
            clock = _Clock(Patience(), first)
            loop.now = (began + round(delay * 1000) - 2) / 1000
            assert not clock.tick(0)
            loop.now = (began + round(delay * 1000)) / 1000
            assert clock.tick(0)

    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        runner.run(main(loop))
