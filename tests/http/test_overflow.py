"""Prompts too long for their model, over a worker that follows a script: seed V6 and its kind."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from bessemer.engine.request import Event, Refusal, Request, Started
from bessemer.http.local import GenerationBackend, Patience
from bessemer.translate.chat import (
    AnswerStarted,
    Chat,
    Completion,
    Done,
    GenerationOptions,
    Heartbeat,
    Message,
    Shortened,
)
from bessemer.translate.parts import said
from tests.http.scripted_backend import Here, ScriptedWorker, Slow, events, writer
from tests.translate.test_answer import HELLO, RENDERER, TEMPLATE, prompts_of, says, text

CONTEXT = 200  # tokens, of ScriptedWorker's plan; an answer's share is a quarter
SYSTEM = Message("system", said("You are a helpful assistant."))
LAST = Message("user", said("And now?"))
TOKENIZER = RENDERER.tokenizer


def talk(turns: int, words: str = "Some words that fill it up.") -> tuple[Message, ...]:
    roles = ("user", "assistant")
    old = (Message(roles[at % 2], said(f"{at}: {words}")) for at in range(turns))
    return (SYSTEM, *old, LAST)


class Scripts(ScriptedWorker):
    """A worker that answers each request by the next script, and remembers them all."""

    def __init__(self, *scripts: Slow) -> None:
        super().__init__(lambda requests: next(self.scripts)(requests))
        self.scripts = iter(scripts)
        self.asked: list[Request] = []
        self.counted: list[int] = []

    def open(self, requests: Iterable[Any], *about: Any, **more: Any) -> Any:
        stream = super().open(requests, *about, **more)
        self.asked += self.requests
        self.counted.append(self.admission._total)
        return stream


def model_of(worker: ScriptedWorker, policy: Any) -> GenerationBackend:
    model, _ = writer(says("Hi"))
    any_worker: Any = worker
    return replace(model, worker=any_worker, overflow=policy)


def prompt_of(worker: ScriptedWorker) -> str:
    return TOKENIZER.decode(worker.requests[0].tokens)


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> list[Chat]:
    """Return what is rendered, in order."""
    rendered: list[Chat] = []

    async def render(here: Here, chat: Chat, limit: int) -> str:
        rendered.append(chat)
        return TEMPLATE.render(chat, limit)

    monkeypatch.setattr(Here, "render", render)
    return rendered


@pytest.mark.parametrize("policy", ["error", "truncate", "summarize"])
def test_what_fits_is_left_as_it_is(policy: str, renders: list[Chat]) -> None:
    worker = Scripts(says("Hi"))
    answer = events(model_of(worker, policy), Chat("m", HELLO))
    assert text(answer) == "Hi" and len(renders) == len(worker.asked) == 1
    assert isinstance(answer[0], AnswerStarted) and answer[0].usage.shortened is None


def test_an_error_says_both_numbers() -> None:
    chat = Chat("m", talk(40))
    with pytest.raises(Refusal, match="this model's context is 200 tokens") as caught:
        events(model_of(Scripts(), "error"), chat)
    refusal = caught.value
    assert (refusal.status, refusal.code) == (400, "context_length_exceeded")
    tokens = len(prompts_of(chat, 9999)[0].tokens)
    assert refusal.sizes in ((tokens, CONTEXT - 1), (2 * CONTEXT + 1, CONTEXT))


@pytest.mark.parametrize("turns", [10, 40, 2000])
def test_the_oldest_turns_go_until_an_answer_has_room(turns: int, renders: list[Chat]) -> None:
    worker = Scripts(says("Hi"))
    answer = events(model_of(worker, "truncate"), Chat("m", talk(turns)))
    prompt, tokens = prompt_of(worker), len(worker.requests[0].tokens)
    assert tokens <= CONTEXT - 50 < tokens + 60  # and no more than need be
    assert "helpful assistant" in prompt and "And now?" in prompt
    assert f"{turns - 1}: Some" in prompt and "\n0: Some" not in prompt
    kept = prompt.count("Some words")
    assert isinstance(answer[-1], Done)
    assert answer[-1].usage.shortened == Shortened("truncate", messages=turns - kept)
    assert len(renders) <= 14


def test_what_cannot_be_cut_is_refused() -> None:
    long = Message("user", said("word " * 300))
    with pytest.raises(Refusal) as caught:
        events(model_of(Scripts(), "truncate"), Chat("m", (*talk(4), long)))
    assert caught.value.code == "context_length_exceeded"


def test_a_request_may_have_its_own_way() -> None:
    options = GenerationOptions(overflow="error")
    with pytest.raises(Refusal):
        events(model_of(Scripts(), "truncate"), Chat("m", talk(40), options))
    options = GenerationOptions(overflow="truncate")
    assert (
        text(events(model_of(Scripts(says("Hi")), "error"), Chat("m", talk(40), options))) == "Hi"
    )


def test_other_refusals_are_not_taken_for_length() -> None:
    backend = model_of(Scripts(), "truncate")
    for prompts in (((10**6,),), ("once upon a time " * 5000, (10**6, 300))):
        with pytest.raises(Refusal, match="1000000") as caught:
            events(backend, Completion("m", prompts))
        assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    "prompt",
    ["once upon a time " * 60, "once upon a time " * 5000, tuple(range(300, 700))],
    ids=["text", "hopeless", "ids"],
)
def test_a_bare_prompt_loses_its_beginning(prompt: Any) -> None:
    worker = Scripts(says("Hi"))
    answer = events(model_of(worker, "truncate"), Completion("m", (prompt, "Short")))
    cut, short = worker.asked[0].tokens, worker.asked[1].tokens
    assert len(cut) == CONTEXT - 50 and [*short] == TOKENIZER.encode("Short")
    whole = TOKENIZER.encode(prompt[-2000:]) if isinstance(prompt, str) else [*prompt]
    assert [*cut] == [*whole][-len(cut) :]
    assert isinstance(answer[-1], Done) and answer[-1].usage.shortened
    lost = answer[-1].usage.shortened
    assert lost.tokens > 0 == lost.messages
    if len(prompt) < 2000:  # of more not all were counted
        all_ = TOKENIZER.encode(prompt) if isinstance(prompt, str) else prompt
        assert lost.tokens == len(all_) - len(cut)


def test_a_bare_prompt_is_not_summarized() -> None:
    with pytest.raises(Refusal):
        events(model_of(Scripts(), "summarize"), Completion("m", ("word " * 400,)))


def test_older_messages_are_summarized_by_the_model_itself_v6() -> None:
    worker = Scripts(says("They counted."), says("Hi"))
    short = talk(40, "ok")
    chat = Chat("m", short, GenerationOptions(cache_salt="s"), client="c")
    answer = events(model_of(worker, "summarize"), chat)
    asked, final = worker.asked
    assert text(answer) == "Hi"
    assert (asked.client, asked.salt) == (final.client, final.salt) == ("c", "s")
    assert asked.max_tokens == CONTEXT // 8 and asked.sampling.temperature == 0
    assert "Summarize" in TOKENIZER.decode(asked.tokens)
    prompt = TOKENIZER.decode(final.tokens)
    assert "helpful assistant" in prompt and "They counted." in prompt
    assert "34: ok" not in prompt and all(f"{at}: ok" in prompt for at in range(35, 40))
    assert isinstance(answer[-1], Done)
    assert answer[-1].usage.shortened == Shortened("summarize", messages=35)
    # It is the client's own sequence, given back when the answer is over.
    assert worker.counted == [1, 1] and worker.admission._total == 0 and worker.stream.closed


def test_a_summary_is_of_the_newest_of_what_is_old_if_no_more_fits() -> None:
    dense = "".join(chr(ord("!") + at * 37 % 90) for at in range(80))  # a token a character
    long = (Message("user", said(f"{at}{dense}")) for at in range(3))
    worker = Scripts(says("They counted."), says("Hi"))
    chat = Chat("m", (SYSTEM, *long, *talk(5, "ok")[1:]))
    assert text(events(model_of(worker, "summarize"), chat)) == "Hi"
    asked = TOKENIZER.decode(worker.asked[0].tokens)
    assert asked.count("user: ") == 1 and "user: 2" in asked


def test_what_a_summary_does_not_make_fit_is_an_error_v6() -> None:
    worker = Scripts(says("They counted."))
    with pytest.raises(Refusal) as caught:
        events(model_of(worker, "summarize"), Chat("m", talk(12, "word " * 30)))
    assert caught.value.code == "context_length_exceeded" and len(worker.asked) == 1
    with pytest.raises(Refusal):  # nothing is old
        events(model_of(worker, "summarize"), Chat("m", talk(5, "word " * 40)))
    assert len(worker.asked) == 1


def test_a_client_that_leaves_cancels_its_summary_and_a_stream_is_not_silent() -> None:
    def never(requests: list[Request]) -> Iterable[Event | None]:
        yield Started(requests[0].id, 0)
        yield from [None] * 10**6

    worker = Scripts(never)
    model = replace(model_of(worker, "summarize"), patience=Patience(opening=0.01))
    chat = Chat("m", talk(40, "ok"), GenerationOptions(stream=True), client="c")

    async def main() -> None:
        answer = model.events(chat)
        assert await anext(answer) == Heartbeat()
        assert not worker.stream.closed
        await answer.aclose()

    asyncio.run(main())
    assert worker.stream.closed and len(worker.asked) == 1
