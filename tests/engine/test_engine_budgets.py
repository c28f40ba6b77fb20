"""Answers whose thoughts are closed by force: in batches, at every depth, beside all else."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from bessemer.engine.request import Constraint, Event, Sampling, Thought, ThoughtBudget, Token
from tests.engine.paper_model import END, answers, engine, greedy, logits_after, prompt, request_for

OPENED, START = Thought("<", ">", "thought"), Thought("<", ">")
UNCLOSED = {ord(">") - 32: -100.0}  # no thought ends by itself
PLAIN = Sampling(temperature=0, logit_bias=UNCLOSED)


def ids(text: str) -> list[int]:
    return [ord(letter) - 32 for letter in text]


def spelled(tokens: Iterable[int]) -> str:
    return "".join(chr(32 + token) for token in tokens if token != END)


def budget(tokens: int, closing: str = "/>!", again: str = "/>?", line: int = 0) -> ThoughtBudget:
    return ThoughtBudget(tokens=tokens, closing=ids(closing), again=ids(again), line=line)


def held(start: Sequence[int], count: int, closing: str, rest: int) -> str:
    """Return what the model answers if it is cut after so many tokens and then goes on."""
    tokens = list(start)
    for at in range(count + rest):
        if at == count:
            tokens += ids(closing)
        logits = logits_after(tokens)
        logits[ord(">") - 32] -= 100
        tokens.append(int(np.argmax(logits)))
    return spelled(tokens[len(start) :])


def texts(events: Iterable[Event]) -> dict[int, str]:
    return {number: spelled(tokens) for number, tokens in answers(events).items()}


@pytest.mark.parametrize("logprobs", [None, 1])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("pages", [64, 9])
def test_a_thought_is_closed_and_the_answer_goes_on_from_there(
    logprobs: int | None, ahead: bool, pages: int
) -> None:
    """Neighbours are unchanged; with few pages some are preempted on the way."""
    door, _ = engine(pages=pages, ahead=ahead, chunk=24)
    oracle = {}
    for number in range(9):
        tokens = prompt(number, 20 + 5 * number)
        if number % 3 == 2:
            oracle[number] = spelled(greedy(tokens, 50))
            door.submit(request_for(number, tokens, 50))
            continue
        limit, more = number % 8, {"thought": OPENED, "sampling": PLAIN, "logprobs": logprobs}
        oracle[number] = held(tokens, limit, "/>!", 50 - 3 - limit)
        door.submit(request_for(number, tokens, 50, budget=budget(limit), **more))
    events = list(door.run())
    assert texts(events) == oracle
    assert (door.scheduler.preemptions > 0) == (pages == 9)
    scored = [e for e in events if isinstance(e, Token) and e.request % 3 < 2]
    if logprobs is not None:
        assert all(len(event.logprobs) == len(event.tokens) == 1 for event in scored)
    else:
        assert any(len(event.tokens) == 4 for event in scored), "fed, not drawn"


@pytest.mark.parametrize("ahead", [False, True])
def test_a_thought_is_closed_where_nothing_else_is_edited(ahead: bool) -> None:
    """So the draw goes ahead until the budget is all but spent."""
    door, _ = engine(ahead=ahead)
    oracle = {}
    for limit in range(8):
        start = next(p for n in range(99) if ids(">")[0] not in greedy(p := prompt(n, 5), 8))
        before = [*start, *greedy(start, limit), *ids("/>!")]
        oracle[limit] = spelled(before[5:]) + spelled(greedy(before, 12))
        count = len(oracle[limit])
        door.submit(request_for(limit, start, count, budget=budget(limit), thought=OPENED))
    assert texts(door.run()) == oracle


@pytest.mark.parametrize("ahead", [False, True])
def test_what_is_forced_has_the_models_own_log_probabilities(ahead: bool) -> None:
    door, _ = engine(ahead=ahead)
    tokens = prompt(3, 10)
    more = {"thought": OPENED, "sampling": PLAIN, "logprobs": 2}
    door.submit(request_for(1, tokens, 12, budget=budget(4), **more))
    for event in door.run():
        if isinstance(event, Token):
            logits = logits_after(tokens)
            own = logits - np.log(np.exp(logits).sum())
            (entry,) = event.logprobs
            assert entry.token == event.tokens[0]
            assert entry.logprob == pytest.approx(own[entry.token], abs=1e-4)
            tokens += event.tokens


@pytest.mark.parametrize("ahead", [False, True])
def test_a_grammar_begins_right_behind_the_closing(ahead: bool) -> None:
    door, _ = engine(ahead=ahead)
    pattern = Constraint(grammar="regex", definition="KLMN[0-9]{3}")
    for number, logprobs in enumerate((None, 0)):
        more = {"constraint": pattern, "thought": OPENED, "logprobs": logprobs}
        more |= {"sampling": PLAIN, "budget": budget(5, "/>", "/>")}
        door.submit(request_for(number, [5], 40, **more))
    said = texts(door.run())
    assert said[0] == said[1]
    assert re.fullmatch("[^>]{5}/>KLMN[0-9]{3}", said[0]), said


def test_a_thought_that_fits_is_left_alone() -> None:
    likely = Sampling(temperature=1, seed=4, logit_bias={ord(">") - 32: 1.0})
    free, held = engine()[0], engine()[0]
    more: dict[str, Any] = {"thought": OPENED, "sampling": likely}
    free.submit(request_for(1, [5, 6], 40, **more))
    said = texts(free.run())[1]
    length = said.index(">")
    assert length > 3
    held.submit(request_for(1, [5, 6], 40, budget=budget(length + 1), **more))
    assert texts(held.run())[1] == said


def test_a_thought_that_the_model_opens_is_closed_at_once_where_none_is_wanted() -> None:
    door, _ = engine()
    opening = Sampling(temperature=0, logit_bias=UNCLOSED | {ord("<") - 32: 100.0})
    door.submit(request_for(1, [5], 9, budget=budget(0), thought=START, sampling=opening))
    assert texts(door.run())[1] == "</>!" + "<" * 5, "a later mark is text"


@pytest.mark.parametrize("ahead", [False, True])
def test_nothing_else_has_a_say_about_what_is_forced(ahead: bool) -> None:
    door, _ = engine(ahead=ahead)
    bans = {"bad_words": [ids("/"), ids("!")], "allowed_token_ids": ids("ABC")}
    more = {"thought": OPENED, "sampling": Sampling(temperature=0, repetition_penalty=1.3)}
    for number, logprobs in enumerate((None, 0)):
        some = {**bans, **more, "logprobs": logprobs}
        door.submit(request_for(number, [5], 12, budget=budget(4), **some))
    said = texts(door.run())
    assert said[0] == said[1]
    assert re.fullmatch("[ABC]{4}/>![ABC]{5}", said[0]), said


@pytest.mark.parametrize("ahead", [False, True])
def test_draws_behind_a_closing_depend_on_their_seeds_alone(ahead: bool) -> None:
    def run(numbers: Sequence[int], ahead: bool) -> dict[int, list[int]]:
        door, _ = engine(ahead=ahead)
        for n in numbers:
            sampling = Sampling(temperature=1.5, seed=n, logit_bias=UNCLOSED)
            more = {"thought": OPENED, "sampling": sampling, "budget": budget(6)}
            door.submit(request_for(n, prompt(7, 60), 40, **more))
        return answers(door.run())

    alone = {n: run([n], False)[n] for n in range(4)}
    assert len({tuple(tokens) for tokens in alone.values()}) == 4
    assert run(range(4), ahead) == alone


def test_the_last_token_may_be_one_of_the_closing() -> None:
    door, _ = engine()
    more = {"thought": OPENED, "sampling": PLAIN}
    door.submit(request_for(1, [5], 6, budget=budget(4), **more))
    events = list(door.run())
    (end,) = (e for e in events if isinstance(e, Token) and e.finish)
    assert end.finish == "length" and texts(events)[1].endswith("/>")
    assert len(texts(events)[1]) == 6


def test_a_stop_string_counts_behind_the_closing_alone() -> None:
    door, _ = engine()
    more = {"thought": OPENED, "sampling": PLAIN, "budget": budget(5)}
    said = held([5], 5, "/>!", 30)
    stop = said[12:14]
    door.submit(request_for(1, [5], 40, stop=[stop, said[1:3]], **more))
    events = list(door.run())
    (end,) = (e for e in events if isinstance(e, Token) and e.finish)
    assert end.stop == stop and texts(events)[1] == said[: said.index(stop, 8) + 2]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_draw_waits_only_near_the_end_of_a_budget(ahead: bool) -> None:
    door, _ = engine(ahead=ahead)
    start = next(p for n in range(99) if ids(">")[0] not in greedy(p := prompt(n, 5), 60))
    door.submit(request_for(1, start, 60, budget=budget(40), thought=OPENED))
    (sequence,) = door._active.values()
    waits = []
    while door.busy:
        waits.append(sequence.is_edited)
        door.step()
    assert not any(waits[:38]) and any(waits[38:]) and not waits[-1], "nor behind it"
