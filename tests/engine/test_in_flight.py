"""A step submitted before the one before is read: in which order, what is computed too much."""

from collections import Counter
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine import in_flight
from bessemer.engine.batch import Batch, Output
from bessemer.engine.engine import Engine
from bessemer.engine.request import (
    Prefilled,
    Refused,
    Sampling,
    Thought,
    ThoughtBudget,
    Token,
)
from bessemer.engine.sampler import Drawn, PromptScores

from .paper_model import END, PaperModel, answers, engine, greedy, prompt, request_for


class Order:
    """What happens in which order: a forward pass, a draw of so many rows, a reading."""

    def __init__(self, door: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        forward, sample, read = door.forward, in_flight.sample, Drawn.read

        def noted(what: str, call: Any, *arguments: Any) -> Any:
            self.told.append(what)
            return call(*arguments)

        door.forward = lambda batch: noted("forward", forward, batch)
        monkeypatch.setattr(
            in_flight,
            "sample",
            lambda logits, rows: noted(f"draw {len(rows)}", sample, logits, rows),
        )
        monkeypatch.setattr(Drawn, "read", lambda drawn: noted("read", read, drawn))


def test_a_step_is_submitted_before_the_one_before_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    door, _ = engine(ahead=True)
    door.submit(request_for(1, prompt(1, 5), 3))
    order = Order(door, monkeypatch)
    events = list(door.run())
    once = ["forward", "draw 1"]
    assert order.told == [*once, *once, "read", *once, "read", "read"]
    assert answers(events) == {1: greedy(prompt(1, 5), 3)}


@pytest.mark.parametrize("ahead", [False, True])
def test_a_prompt_s_progress_is_told_step_by_step_where_it_is_asked_for(ahead: bool) -> None:
    door, model = engine(ahead=ahead, chunk=32)
    door.submit(request_for(1, prompt(1, 100), 5, progress=True))
    door.submit(request_for(2, prompt(2, 70), 5))
    told: list[tuple[int, int]] = []  # how much, and how many rows were computed by then
    for event in door.run():
        if isinstance(event, Prefilled):
            assert event.request == 1 and not event.over
            told.append((event.tokens, sum(model.steps)))
        assert not (isinstance(event, Token) and event.request == 1) or told[-1][0] == 100
    counts = [tokens for tokens, _ in told]
    assert counts == sorted({*counts}) and len(counts) > 3 and counts[-1] == 100
    assert all(tokens <= rows for tokens, rows in told)


def test_only_rows_with_edits_wait_for_the_token_before(monkeypatch: pytest.MonkeyPatch) -> None:
    door, _ = engine(ahead=True)
    door.submit(request_for(1, prompt(1, 5), 9))
    door.submit(
        request_for(2, prompt(2, 5), 9, sampling=Sampling(temperature=0, presence_penalty=1.5))
    )
    door.submit(request_for(3, prompt(3, 5), 9))
    door.step()
    order = Order(door, monkeypatch)
    door.step()
    assert order.told == ["forward", "draw 2", "read", "read", "draw 1"]
    out, alone = answers(door.run()), engine()[0]
    alone.submit(
        request_for(2, prompt(2, 5), 9, sampling=Sampling(temperature=0, presence_penalty=1.5))
    )
    assert out[2] == answers(alone.run())[2][-len(out[2]) :]
    assert out[1] == greedy(prompt(1, 5), 9)[-len(out[1]) :]


def test_nothing_is_drawn_behind_a_token_before_what_it_forces_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, model = engine(ahead=True)
    budget = ThoughtBudget(tokens=3, closing=[7, 30, 8], again=[7, 30, 8])
    more: dict[str, Any] = {"thought": Thought("<", ">", "thought"), "budget": budget}
    door.submit(request_for(1, prompt(1, 5), 9, **more))
    order = Order(door, monkeypatch)
    (tokens,) = answers(door.run()).values()
    assert tokens[3:6] == [7, 30, 8] and len(tokens) == 9
    assert sum(model.steps) == 5 + 8, "each token is computed once"
    assert sum(each == "draw 1" for each in order.told) == 6, "and the forced ones are not drawn"


def test_an_answer_of_known_length_computes_nothing_too_much() -> None:
    door, model = engine(ahead=True)
    door.submit(request_for(1, prompt(1, 5), 7))
    assert answers(door.run()) == {1: greedy(prompt(1, 5), 7)}
    assert model.steps == [5, 1, 1, 1, 1, 1, 1]


def test_the_context_is_a_known_length_too() -> None:
    door, model = engine(ahead=True, context=9)
    door.submit(request_for(1, prompt(1, 5), 100))
    assert answers(door.run()) == {1: greedy(prompt(1, 5), 4)}
    assert model.steps == [5, 1, 1, 1]


def test_an_answer_that_ends_by_itself_computes_one_row_too_much() -> None:
    door, model = engine(ahead=True)
    stops = greedy(prompt(1, 5), 6)
    assert Counter(stops)[stops[5]] == 1
    door.submit(request_for(1, prompt(1, 5), 90, stop_token_ids=[stops[5]]))
    *_, last = events = list(door.run())
    assert answers(events) == {1: stops}
    assert isinstance(last, Token) and last.finish == "stop"
    assert model.steps == [5, 1, 1, 1, 1, 1, 1]
    assert door.pager.pages_free == door.pager.pages_total and not door.busy
    assert door.step() == []


def test_what_is_cancelled_in_flight_says_nothing_more() -> None:
    door, _ = engine(ahead=True)
    for number in (1, 2):
        door.submit(request_for(number, prompt(number, 5), 8))
    door.step()
    door.cancel(1)
    out = answers(door.run())
    assert out == {2: greedy(prompt(2, 5), 8)}
    assert door.pager.pages_free == door.pager.pages_total


def test_a_number_that_comes_again_is_another_request() -> None:
    door, _ = engine(ahead=True)
    door.submit(request_for(1, prompt(1, 5), 8))
    door.step()
    door.cancel(1)
    door.submit(request_for(1, prompt(2, 6), 8))
    assert answers(door.run()) == {1: greedy(prompt(2, 6), 8)}


def test_scores_of_a_prompt_are_not_given_to_another_of_its_number() -> None:
    door, _ = engine(ahead=True, chunk=8)
    door.submit(request_for(1, prompt(1, 40), 4, prompt_logprobs=1))
    door.submit(request_for(2, prompt(3, 5), 20))
    door.step()
    door.cancel(1)
    door.submit(request_for(1, prompt(2, 40), 4, prompt_logprobs=1))
    told = [e for e in door.run() if isinstance(e, Token) and e.request == 1]
    assert [entry.token for event in told for entry in event.prompt] == prompt(2, 40)[1:]


def test_a_preempted_sequence_keeps_the_token_that_it_waits_for() -> None:
    door, model = engine(pages=5, ahead=True, batch=2, context=160)
    for number in (1, 2):
        door.submit(request_for(number, prompt(number, 30), 70))
    out = answers(door.run())
    assert door.scheduler.preemptions
    assert out == {number: greedy(prompt(number, 30), 70) for number in (1, 2)}
    assert sum(model.steps) > 2 * (30 + 69)


def test_nothing_can_be_drawn_of_a_step_that_another_follows() -> None:
    class Broken(PaperModel):
        """Gives NaN at the third token of request 1."""

        def __call__(self, batch: Batch) -> Output:
            logits = np.array(super().__call__(batch).logits)
            for row in range(batch.decodes):
                if batch.sequences[row] == 1 and batch.positions[row] == 7:
                    logits[row] = np.nan
            return Output(mx.array(logits))

    door, model = engine(ahead=True, chunk=5)
    door.forward = Broken(model.sizes)
    for number in (1, 2):
        door.submit(request_for(number, prompt(number, 5), 8))
    events = list(door.run())
    (refused,) = [event for event in events if isinstance(event, Refused)]
    assert (refused.request, refused.code) == (1, "numerics")
    told = answers(event for event in events if not isinstance(event, Refused))
    assert told == {1: greedy(prompt(1, 5), 3), 2: greedy(prompt(2, 5), 8)}
    assert END not in told[2]


def test_no_answer_and_scores_of_the_prompt() -> None:
    door, model = engine(ahead=True)
    door.submit(request_for(1, prompt(1, 40), 0, prompt_logprobs=2))
    both = engine()[0]
    both.submit(request_for(1, prompt(1, 40), 0, prompt_logprobs=2))
    told = [e for e in door.run() if isinstance(e, Token)]
    assert told == [e for e in both.run() if isinstance(e, Token)]
    assert [len(entry.top) for event in told for entry in event.prompt] == [2] * 39
    assert sum(model.steps) == 40


def test_prompt_tokens_are_scored_once_and_only_in_steps_that_have_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored = []
    score = in_flight.score_prompt

    def noted(rows: mx.array, tokens: Any, top: int) -> PromptScores:
        scored.append(list(tokens))
        return score(rows, tokens, top)

    monkeypatch.setattr(in_flight, "score_prompt", noted)
    door, _ = engine(chunk=24)
    text = prompt(1, 2 * 24 + 1)  # the last step of it has a token to go on from, and none to score
    door.submit(request_for(1, text, 3, prompt_logprobs=0))
    events = list(door.run())
    assert answers(events) == {1: greedy(text, 3)}
    assert scored == [text[1:25], text[25:]]
