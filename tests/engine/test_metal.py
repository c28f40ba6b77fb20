"""The engine's Metal path from end to end: in the simulator, the built-in model says the same."""

from functools import cache

import pytest

from bessemer.engine.request import Refused, Request, Sampling, Token
from bessemer.engine.serving import Serving, Settings, load
from bessemer.engine.wire import Pattern
from bessemer.http.hub import BUILT_IN
from bessemer.kernels.metal.device import Nowhere, Options, Simulator, using
from bessemer.kernels.metal.library import watching

PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
QUESTIONS = ("How do I serve a model?", "What is a paged cache?")
LENGTH = {"tail": 40, "in-place": 12, "functional": 12}  # tokens; 40 cross a page's end


def serving(pattern: Pattern = "tail", exact: bool = False) -> Serving:
    settings = Settings(
        memory=10**9,
        pool=0,
        max_batch=4,
        queue=8,
        chunk=64,
        exact=exact,
        kv_pattern=pattern,
    )
    return load(BUILT_IN, settings)


def answers(model: Serving, length: int) -> tuple[tuple[int, ...], ...]:
    """The second question comes while the first is being answered."""
    found: dict[int, list[int]] = {}
    prompts = [model.tokenizer.encode(PROMPT.format(q), special=False) for q in QUESTIONS]
    waiting = list(enumerate(prompts))
    for step in range(1000):
        if waiting and step in (0, 3):
            number, prompt = waiting.pop(0)
            model.engine.submit(
                Request(
                    id=number, tokens=prompt, max_tokens=length, sampling=Sampling(temperature=0)
                )
            )
        for event in model.engine.step():
            assert not isinstance(event, Refused)
            if isinstance(event, Token):
                found.setdefault(event.request, []).extend(event.tokens)
        if not model.engine.busy and not waiting:
            break
    return tuple(tuple(found[number]) for number in sorted(found))


@cache
def reference(length: int) -> tuple[tuple[int, ...], ...]:
    """In float32 on the CPU."""
    with using(Nowhere()):
        return answers(serving(exact=True), length)


@pytest.mark.parametrize("pattern", ["tail", "in-place", "functional"])
def test_the_same_greedy_answers_with_every_access_checked(pattern: Pattern) -> None:
    with using(Simulator(Options(mode="check"))), watching() as launches:
        found = answers(serving(pattern), LENGTH[pattern])
    assert found == reference(LENGTH[pattern]) and len(found) == len(QUESTIONS)
    ran = {launch.source.name for launch in launches}
    assert {"linear", "linear_rows", "sample"} <= ran
    assert {"tail": "attention_tail", "in-place": "append_pages"}.get(pattern, "attention") in ran
