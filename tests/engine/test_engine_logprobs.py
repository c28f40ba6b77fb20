"""The engine reports what the model says of a prompt's and an answer's tokens, each once."""

from collections.abc import Iterable

import numpy as np
import pytest

from bessemer.engine.request import Event, Refused, Started, Token, TokenLogprobs
from tests.engine.paper_model import answers, engine, greedy, logits_after, prompt, request_for


def test_logprobs_of_prompt_and_answer() -> None:
    tokens = prompt(3, 70)
    door, _ = engine(chunk=20)
    door.submit(request_for(1, tokens, 5, logprobs=3, prompt_logprobs=2))
    events = [e for e in door.run() if isinstance(e, Token)]
    entries = [entry for e in events for entry in e.prompt]
    answer = [entry for e in events for entry in e.logprobs]
    history = list(tokens)
    assert [entry.token for entry in entries] == tokens[1:]
    for position, entry in enumerate([*entries, *answer], start=1):
        logits = logits_after((history + [e.token for e in answer])[:position]).astype(float)
        scores = logits - np.log(np.exp(logits).sum())
        assert entry.logprob == pytest.approx(scores[entry.token], abs=1e-4)
        assert [token for token, _ in entry.top] == np.argsort(-scores)[: len(entry.top)].tolist()
        rank = 1 + int((logits > logits[entry.token]).sum())
        assert entry.rank == (rank if position < len(tokens) else None)
    assert {len(entry.top) for entry in entries} == {2} and {len(e.top) for e in answer} == {3}


def prompt_entries(events: Iterable[Event]) -> dict[int, list[TokenLogprobs]]:
    out: dict[int, list[TokenLogprobs]] = {}
    for event in events:
        assert not isinstance(event, Refused), event
        if isinstance(event, Token):
            out.setdefault(event.request, []).extend(event.prompt)
    return out


def entries_of(tokens: list[int], top: int) -> list[TokenLogprobs]:
    """Return what the model says of a prompt's tokens, all but the first."""
    out = []
    for position in range(1, len(tokens)):
        logits = logits_after(tokens[:position]).astype(float)
        scores = logits - np.log(np.exp(logits).sum())
        best = [(int(i), pytest.approx(scores[i], abs=1e-4)) for i in np.argsort(-scores)[:top]]
        logprob = pytest.approx(scores[tokens[position]], abs=1e-4)
        rank = 1 + int((scores > scores[tokens[position]]).sum())
        out.append(TokenLogprobs(tokens[position], logprob, best, rank))  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("chunk", [5, 48, 256])
def test_a_cached_prompt_has_all_its_logprobs(chunk: int) -> None:
    tokens = prompt(3, 100)
    door, model = engine(chunk=chunk)
    door.submit(request_for(1, tokens, 5))
    assert answers(door.run()) == {1: greedy(tokens, 5)}
    computed = model.computed
    door.submit(request_for(2, tokens, 5, prompt_logprobs=2))
    door.submit(request_for(3, [*tokens[:70], 9], 0, prompt_logprobs=0))
    door.submit(request_for(4, tokens, 5))
    events = list(door.run())
    assert prompt_entries(events)[2] == entries_of(tokens, 2)
    assert prompt_entries(events)[3] == entries_of([*tokens[:70], 9], 0)
    assert prompt_entries(events)[4] == []
    assert not [e.logprobs for e in events if isinstance(e, Token) and e.logprobs]
    cached = {e.request: e.cached for e in events if isinstance(e, Started)}
    assert cached == {2: 0, 3: 0, 4: 96}  # as in vLLM, such a prompt is computed anew
    assert model.computed - computed == 100 + 71 + 4 + 2 * 4


def test_logprobs_of_prompts_are_whole_in_spite_of_preemption() -> None:
    tokens = {number: prompt(number % 3, 60 + number) for number in range(6)}
    door, _ = engine(pages=12, chunk=40)
    for number, each in tokens.items():
        top = None if number == 4 else number % 3
        door.submit(request_for(number, each, 90, prompt_logprobs=top, logprobs=0))
    events = list(door.run())
    assert door.scheduler.preemptions
    assert answers(events) == {number: greedy(each, 90) for number, each in tokens.items()}
    entries = prompt_entries(events)
    assert entries.pop(4) == []
    assert entries == {n: entries_of(tokens[n], n % 3) for n in entries}
    for number in tokens:  # those of the answer too, each once
        scored = [e for e in events if isinstance(e, Token) and e.request == number]
        assert [e.token for event in scored for e in event.logprobs] == greedy(tokens[number], 90)


def test_no_token_at_all_where_only_the_prompt_was_asked_for() -> None:
    door, _ = engine()
    door.submit(request_for(1, prompt(1, 40), 0, prompt_logprobs=0))
    events = [e for e in door.run() if isinstance(e, Token)]
    assert sum(len(e.prompt) for e in events) == 39
    assert (events[-1].tokens, events[-1].finish) == ([], "length")
