"""Answers held to grammars: what the engine draws, beside others and at every depth."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from bessemer.engine.engine import Engine
from bessemer.engine.grammar.grammars import Grammars
from bessemer.engine.request import (
    Constraint,
    Event,
    Refusal,
    Refused,
    Request,
    Sampling,
    Started,
    Thought,
    Token,
)
from tests.engine.paper_model import (
    END,
    answers,
    compiler,
    engine,
    greedy,
    logits_after,
    prompt,
    request_for,
)

LETTERS, DIGITS = "ABCDEF", "0123456789"


def regex(definition: str, **more: Any) -> Constraint:
    return Constraint(grammar="regex", definition=definition, **more)


def held(prompt: Sequence[int], sets: Iterable[str]) -> str:
    """Return what the model answers where each letter is of one of these sets."""
    tokens, answer = list(prompt), ""
    for letters in sets:
        logits = logits_after(tokens)
        best = max(letters, key=lambda letter: logits[ord(letter) - 32])
        tokens.append(ord(best) - 32)
        answer += best
    return answer


def texts(events: Iterable[Event]) -> dict[int, str]:
    return {
        number: "".join(chr(32 + token) for token in tokens if token != END)
        for number, tokens in answers(events).items()
    }


def last(events: Iterable[Event]) -> dict[int, Token]:
    return {event.request: event for event in events if isinstance(event, Token)}


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("pages", [64, 9])
def test_held_answers_follow_their_grammars_and_neighbours_are_unchanged(
    ahead: bool, pages: int
) -> None:
    """With few pages some are preempted on the way."""
    door, _ = engine(pages=pages, ahead=ahead)
    patterns = [("[A-F]{3}-[0-9]{40}", [*[LETTERS] * 3, "-", *[DIGITS] * 40]), ("[0-9A]+", [])]
    oracle = {}
    for number in range(9):
        tokens = prompt(number, 20 + 5 * number)
        pattern, sets = patterns[number % 2]
        sets = sets or [DIGITS + "A"] * 50
        if number % 3 == 2:
            oracle[number] = "".join(chr(32 + token) for token in greedy(tokens, 50))
            door.submit(request_for(number, tokens, 50))
        else:
            oracle[number] = held(tokens, sets)
            door.submit(request_for(number, tokens, 50, constraint=regex(pattern)))
    events = list(door.run())
    assert texts(events) == oracle
    ends = {number: event.finish for number, event in last(events).items()}
    assert ends == {n: "stop" if n % 3 < 2 and not n % 2 else "length" for n in range(9)}
    assert (door.scheduler.preemptions > 0) == (pages == 9)


@pytest.mark.parametrize("ahead", [False, True])
def test_an_answer_ends_where_its_grammar_does_without_a_token_for_it(ahead: bool) -> None:
    door, _ = engine(ahead=ahead)
    door.submit(request_for(1, [5], 40, constraint=regex("[0-9]{4}"), min_tokens=20))
    (event,) = (e for e in door.run() if isinstance(e, Token) and e.finish)
    assert (event.finish, event.hidden, event.stop) == ("stop", 0, None)


def test_the_end_comes_only_where_the_grammar_allows_it() -> None:
    likely = Sampling(temperature=0, logit_bias={END: 100.0})
    door, _ = engine()
    pattern = regex("[0-9]{3}(A[0-9])*")
    door.submit(request_for(1, [5], 40, constraint=pattern, sampling=likely))
    door.submit(request_for(2, [5], 40, constraint=pattern, sampling=likely, min_tokens=8))
    door.submit(
        request_for(3, [5], 40, constraint=regex("[0-9]{2,6}"), sampling=likely, ignore_eos=True)
    )
    door.submit(request_for(4, [5], 40, constraint=pattern, stop_token_ids=[ord("?") - 32]))
    events = list(door.run())
    said, ends = texts(events), last(events)
    assert [len(said[n]) for n in (1, 2, 3)] == [3, 9, 6]  # 8 tokens are an A without its digit
    assert [(ends[n].finish, ends[n].hidden) for n in (1, 2, 3)] == [
        ("stop", 1),
        ("stop", 1),
        ("stop", 0),
    ]
    assert re.fullmatch(r"[0-9]{3}(A[0-9])*\??", said[4]), "a stop token comes only at an end"


def test_an_answer_that_is_cut_off_is_right_as_far_as_it_goes() -> None:
    door, _ = engine()
    door.submit(request_for(1, [5], 7, constraint=regex("[A-F]{5}[0-9]{5}")))
    events = list(door.run())
    assert re.fullmatch("[A-F]{5}[0-9]{2}", texts(events)[1])
    assert last(events)[1].finish == "length"


def test_what_else_is_banned_stays_so() -> None:
    door, _ = engine()
    some = {"constraint": regex("[0-9]+")}
    five, six, seven = (ord(digit) - 32 for digit in "567")
    door.submit(request_for(1, [5], 9, allowed_token_ids=[five, six, 33], **some))
    door.submit(request_for(2, [5], 9, bad_words=[[n] for n in range(16, 24)], **some))
    bias = Sampling(temperature=0, logit_bias={seven: 100.0, 33: 100.0})
    door.submit(request_for(3, [5], 9, sampling=bias, **some))
    bans = {"bad_words": [[five, five]], "allowed_token_ids": [five]}
    door.submit(request_for(4, [5], 9, **bans, **some))
    door.submit(request_for(5, [5], 9, allowed_token_ids=[33], **some))
    events = list(door.run())
    (refused,) = (event for event in events if isinstance(event, Refused))
    assert (refused.request, refused.status) == (5, 400)
    events.remove(refused)
    said, ends = texts(events), last(events)
    assert re.fullmatch("[56]{9}", said[1]) and re.fullmatch("[89]{9}", said[2])
    assert (said[3], said[4]) == ("7" * 9, "5")
    assert (ends[4].tokens, ends[4].finish) == ([], "stop")


@pytest.mark.parametrize("pages", [64, 12])
def test_held_draws_depend_on_their_seeds_alone(pages: int) -> None:
    def run(pages: int, ahead: bool) -> dict[int, list[int]]:
        door, _ = engine(pages=pages, ahead=ahead)
        for n in range(4):
            sampling = Sampling(temperature=1.5, seed=n, top_p=0.9, repetition_penalty=1.1)
            door.submit(
                request_for(n, prompt(7, 60), 60, sampling=sampling, constraint=regex("[0-9A-F]+"))
            )
        return answers(door.run())

    oracle = run(64, False)
    assert len({tuple(tokens) for tokens in oracle.values()}) == 4
    assert run(pages, False) == run(pages, True) == oracle


def test_logprobs_are_the_models_own() -> None:
    door, _ = engine()
    tokens = prompt(3, 10)
    door.submit(request_for(1, tokens, 6, logprobs=2, constraint=regex("[0-9]{2}:KL[0-9]")))
    for event in door.run():
        if isinstance(event, Token):
            assert len(event.tokens) == 1, "what is forced has log probabilities too"
            logits = logits_after(tokens)
            own = logits - np.log(np.exp(logits).sum())
            (entry,) = event.logprobs
            assert entry.logprob == pytest.approx(own[entry.token], abs=1e-4)
            assert entry.top[0][0] == int(np.argmax(logits)), "the likeliest, allowed or not"
            tokens += event.tokens


@pytest.mark.parametrize(
    ("place", "pattern"), [("start", "(<[^>]*>)?[0-9]{3}"), ("thought", "[^>]*>[0-9]{3}")]
)
@pytest.mark.parametrize("bias", [{}, {ord("<") - 32: 4.0}])
def test_a_thought_before_the_text_is_free(
    place: str, pattern: str, bias: dict[int, float]
) -> None:
    door, _ = engine()
    thought = Thought("<", ">", place)  # type: ignore[arg-type]
    for seed in range(6):
        sampling = Sampling(
            temperature=1, seed=seed, logit_bias=bias | {ord(">") - 32: 2.5, END: 30.0}
        )
        more = {"constraint": regex("[0-9]{3}"), "thought": thought, "sampling": sampling}
        door.submit(request_for(seed, [5], 300, **more))
    said = texts(door.run())
    assert len(said) == 6 and all(re.fullmatch(pattern, text) for text in said.values()), said
    thoughts = [text for text in said.values() if ">" in text]
    assert len(thoughts) == 6 if place == "thought" else thoughts if bias else True
    assert any(re.search("[^0-9<>]", text) for text in thoughts) or not thoughts


def test_a_grammar_may_hold_after_a_text_each_time_that_it_comes() -> None:
    door, _ = engine()
    likely = {ord("<") - 32: 6.0}
    for seed in range(4):
        sampling = Sampling(temperature=1, seed=seed, logit_bias=likely)
        more = {"constraint": regex("[0-9]{3};", after="<<"), "sampling": sampling}
        door.submit(request_for(seed, [5], 120, **more))
    said = texts(door.run())
    parts = [part for text in said.values() for part in text.split("<<")[1:]]
    assert len(parts) >= 8 and all(re.match("[0-9]{3};", part) for part in parts if len(part) > 3)
    assert any(re.fullmatch("[0-9]{3};.*[A-Z].*", part) for part in parts), "free again"


def test_a_grammar_that_cannot_be_had_is_refused_before_generation() -> None:
    door, model = engine()
    bad = Constraint(grammar="json_schema", definition='{"not": {}}', field="guided_json")
    door.submit(request_for(1, [5], 5, constraint=bad))
    door.submit(request_for(2, [5], 5, constraint=bad))
    refused = list(door.run())
    said = [(e.request, e.status, e.field) for e in refused if isinstance(e, Refused)]
    assert said == [(1, 400, "guided_json"), (2, 400, "guided_json")] and len(refused) == 2
    assert not door.busy and not model.steps
    with pytest.raises(Refusal) as caught:  # it is known by now
        door.submit(request_for(3, [5], 5, constraint=bad))
    assert '"not"' in caught.value.message and not door.busy


def test_a_grammar_that_grows_too_complex_ends_its_own_answer_alone() -> None:
    words = (f"/(A|B)*{'AB'[i % 2]}(A|B){{{i}}}{i}/" for i in range(400))
    wide = Constraint(grammar="lark", definition=f"start: ({'|'.join(words)})*")
    letters = Sampling(temperature=0, logit_bias=dict.fromkeys((33, 34), 60.0))
    door, _ = engine()
    door.submit(request_for(1, [5], 400, constraint=wide, sampling=letters))
    door.submit(request_for(2, [5], 30))
    events = list(door.run())
    (refused,) = (event for event in events if isinstance(event, Refused))
    assert (refused.request, refused.status, refused.code) == (1, 400, "grammar_too_complex")
    assert answers(e for e in events if e.request == 2) == {2: greedy([5], 30)}


class SlowGrammars(Grammars):
    """Grammars that are compiled when a test says so."""

    def __init__(self) -> None:
        super().__init__(compiler())
        self.asked: list[Request] = []
        self.done = True

    @property
    def idle(self) -> bool:
        return self.done and super().idle

    def compile(self, request: Request) -> None:
        assert self.done
        self.asked.append(request)
        self.done = False

    def finish(self) -> None:
        self.done = True
        super().compile(self.asked[-1])
        self.wait()


def slow() -> tuple[Engine, SlowGrammars]:
    grammars = SlowGrammars()
    return engine(grammars=grammars)[0], grammars


def test_others_go_on_while_a_grammar_is_compiled() -> None:
    door, grammars = slow()
    door.submit(request_for(1, [5], 5, constraint=regex("[0-9]{2}")))
    assert door.busy, "a step is due, to begin with it"
    assert door.step() == [] and not door.busy
    assert (door.report().waiting, door.report().running) == (1, 0)
    door.submit(request_for(2, [5], 4))
    while door.busy:
        assert all(event.request == 2 for event in door.step())
    door.submit(request_for(3, [5], 5, constraint=regex("[0-9]{2}")))
    grammars.finish()
    assert door.busy
    said = texts(door.run())
    assert said.keys() == {1, 3} and len(grammars.asked) == 1, "the two have one grammar"


def test_clients_take_turns_at_compiling() -> None:
    door, grammars = slow()
    for number, client in enumerate("aaab"):
        pattern = regex(f"[0-9]{{{number + 1}}}")
        door.submit(request_for(number, [5], 5, constraint=pattern, client=client))
    for _ in range(4):
        door.step()
        grammars.finish()
        while any(isinstance(event, Started) for event in door.step()):
            pass
    asked = [request.id for request in grammars.asked[:4]]
    assert asked.index(3) < 3, asked


def test_a_request_may_go_while_its_grammar_is_compiled() -> None:
    door, grammars = slow()
    door.submit(request_for(1, [5], 5, constraint=regex("[0-9]{2}")))
    door.step()
    door.cancel(1)
    assert not door.busy and not door.report().waiting
    grammars.finish()
    assert list(door.run()) == []
    door.submit(request_for(2, [5], 5, constraint=regex("[0-9]{2}")))
    assert len(texts(door.run())[2]) == 2 and len(grammars.asked) == 1


def test_who_runs_to_the_end_waits_for_a_grammar_where_nothing_else_is_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, grammars = slow()
    steps = iter(range(20))  # far fewer than of one that only looks whether it is there
    step = door.step
    monkeypatch.setattr(door, "step", lambda: next(steps) * [] + step())

    def wait() -> None:
        if grammars.done:
            Grammars.wait(grammars)
        else:
            grammars.finish()

    monkeypatch.setattr(grammars, "wait", wait)
    door.submit(request_for(1, [5], 5, constraint=regex("[0-9]{2}")))
    assert len(texts(door.run())[1]) == 2


def test_grammars_of_choices_are_apart() -> None:
    door, _ = engine()
    one = regex("[A-F]{2}[0-9]{3}")
    for number in range(3):
        sampling = Sampling(temperature=1.5, seed=number)
        door.submit(request_for(number, [5, 6], 9, constraint=one, sampling=sampling))
    said = texts(door.run())
    assert len(set(said.values())) == 3
    assert all(re.fullmatch("[A-F]{2}[0-9]{3}", text) for text in said.values())


FIXED = "[A-F]{2}:KLMNO;([0-9]:PQ,)*[0-9]:KLMNOPQ!"


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("pages", [64, 9])
def test_what_is_forced_is_computed_at_once_and_is_what_would_be_drawn(
    ahead: bool, pages: int
) -> None:
    """With logprobs, which each token has, none is passed over."""
    door, model = engine(pages=pages, ahead=ahead, chunk=24)
    steps = []
    said: list[dict[int, list[int]]] = []
    for more in ({"logprobs": 0}, {}):
        before = len(model.steps)
        for n in range(6):
            sampling = Sampling(temperature=1.5, seed=n)
            tokens = prompt(n, 30 + 5 * n)
            fields = {"constraint": regex(FIXED), "sampling": sampling, **more}
            door.submit(request_for(n, tokens, 60, **fields))
            door.submit(request_for(100 + n, tokens, 20))
        events = list(door.run())
        said.append(answers(events))
        steps.append(len(model.steps) - before)
        assert all(said[-1][100 + n] == greedy(prompt(n, 30 + 5 * n), 20) for n in range(6))
    assert said[0] == said[1] and steps[1] < steps[0]
    assert any(len(event.tokens) > 5 for event in events if isinstance(event, Token))
    assert (door.scheduler.preemptions > 0) == (pages == 9)


@pytest.mark.parametrize("ahead", [False, True])
def test_an_answer_may_end_among_what_is_forced(ahead: bool) -> None:
    door, _ = engine(ahead=ahead)
    fields = {"constraint": regex("[A-F]:KLMNO;[0-9]+"), "sampling": Sampling(temperature=0)}
    door.submit(request_for(1, [5], 4, **fields))
    door.submit(request_for(2, [5], 30, stop=["LM"], **fields))
    door.submit(request_for(3, [5], 30, stop_token_ids=[ord("N") - 32], **fields))
    whole = regex("[A-F]:KLMNO")
    door.submit(request_for(4, [5], 30, constraint=whole))
    door.submit(request_for(5, [5], 30, **fields, allowed_token_ids=[*range(33, 38), 26, 43]))
    events = list(door.run())
    (refused,) = (event for event in events if isinstance(event, Refused))
    # What it allows of its own counts before what is forced, and what it has said is not whole.
    assert (refused.request, refused.status) == (5, 400)
    events.remove(refused)
    said, ends = texts(events), last(events)
    assert [said[n][1:] for n in (1, 2, 3, 4, 5)] == [":KL", ":KLM", ":KLMN", ":KLMNO", ":K"]
    reasons = [(ends[n].finish, ends[n].stop, ends[n].hidden) for n in (1, 2, 3, 4)]
    assert reasons == [
        ("length", None, 0),
        ("stop", "LM", 0),
        ("stop", None, 1),
        ("stop", None, 0),
    ]
