"""The engine's Metal path from end to end: in the simulator, models say what they say on a CPU."""

from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from msgspec import structs

from bessemer.engine.batch import Batch, Output
from bessemer.engine.request import Constraint, Event, Refused, Request, Sampling, Token
from bessemer.engine.runner import Runner
from bessemer.engine.serving import LoadedModel, load
from bessemer.engine.settings import Pattern, Settings
from bessemer.http.hub import BUILT_IN
from bessemer.kernels.metal.device import Nowhere, Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching

from .paper_model import answers as told
from .paper_model import prompt, request_for, rows_of
from .test_serving import worded

PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
QUESTIONS = ("How do I serve a model?", "What is a paged cache?")
LONG = 50
WINDOWED = ("gemma3", "gemma4", "gpt_oss")
BY_PATTERN = {"attention_tail", "append_pages", "latent_append"}  # kernels that need one
LENGTH = {"tail": 40, "in-place": 12, "functional": 12}  # tokens; 40 cross a page's end


def serving(pattern: Pattern = "tail", exact: bool = False) -> LoadedModel:
    settings = Settings(
        max_batch=4,
        queue=8,
        chunk=64,
        cpu_precision="exact" if exact else "fast",
        metal_kv=pattern,
    )
    return load(BUILT_IN, settings, memory=10**9)


def answers(model: LoadedModel, length: int) -> tuple[tuple[int, ...], ...]:
    """The second question comes while the first is being answered."""
    out: dict[int, list[int]] = {}
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
                out.setdefault(event.request, []).extend(event.tokens)
        if not model.engine.busy and not waiting:
            break
    return tuple(tuple(out[number]) for number in sorted(out))


@cache
def reference(length: int) -> tuple[tuple[int, ...], ...]:
    """Compute the reference in float32 on the CPU."""
    with using(Nowhere()):
        return answers(serving(exact=True), length)


@pytest.mark.parametrize("pattern", ["tail", "in-place", "functional"])
def test_the_same_greedy_answers_with_every_access_checked(pattern: Pattern) -> None:
    with using(Simulator(SimulatorOptions(mode="check"))), watching() as launches:
        out = answers(serving(pattern), LENGTH[pattern])
    assert out == reference(LENGTH[pattern]) and len(out) == len(QUESTIONS)
    ran = {launch.source.name for launch in launches}
    assert {"linear", "linear_rows", "sample"} <= ran
    assert {"tail": "attention_tail", "in-place": "append_pages"}.get(pattern, "attention") in ran


class Seen:
    """A runner, how often each token was computed, and whether a window gave pages back."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.computed: Counter[tuple[int, int]] = Counter()
        self.given_back = False

    def __call__(self, batch: Batch) -> Output:
        owners = np.repeat(np.array(batch.sequences), rows_of(batch))
        self.computed.update(zip(owners.tolist(), batch.positions.tolist(), strict=True))
        self.given_back |= any(
            bool(((row == 0) & (np.cumsum(row) < row.sum())).any())
            for table in batch.tables
            for row in table
        )
        return self.runner(batch)


def crowded(directory: Path, pattern: Pattern) -> tuple[dict[int, list[int]], Seen]:
    """Greedy answers to four requests, two of which begin alike, with pages for about two."""
    settings = Settings(max_batch=4, queue=8, chunk=48, cpu_precision="exact")
    plan = load(directory, settings, memory=10**9).plan
    page = plan.page + sum(each.page for each in plan.windows)
    pool = 9 * page * (2 if plan.state else 1)
    settings = structs.replace(settings, kv_cache=pool, metal_kv=pattern)
    door = load(directory, settings, memory=10**9).engine
    assert isinstance(door.forward, Runner)
    seen = door.forward = Seen(door.forward)
    events: list[Event] = []
    for number, (shared, unshared) in enumerate([(40, 30), (40, 12), (0, 50), (0, 80)]):
        tokens = [*prompt(1, shared), *prompt(10 + number, unshared)]
        door.submit(request_for(number, tokens, LONG, ignore_eos=True))
        for _ in range(4):
            events += door.step()
    events += door.run()
    return told(events), seen


@cache
def without_kernels(name: str) -> dict[int, list[int]]:
    with TemporaryDirectory() as directory, using(Nowhere()):
        return crowded(worded(Path(directory), name), "functional")[0]


@pytest.mark.parametrize(
    ("name", "pattern", "kernel"),
    [
        ("gemma3_text_older", "tail", "attention_tail"),
        ("gemma3_text_older", "in-place", "append_pages"),
        ("gemma3_text_older", "functional", "attention"),
        ("gpt_oss_yarn", "tail", "attention_tail"),
        ("qwen3_next_shared_keys", "tail", "attention_tail"),
        ("lfm2_adjusted_tied", "in-place", "append_pages"),
        ("deepseek_v2_even", "tail", "latent_attention"),
        ("deepseek_v2_even", "in-place", "latent_append"),
        # Keys that other layers borrow are appended in one way alone.
        ("gemma4_per_layer_lending", "in-place", "attention"),
    ],
)
def test_models_of_every_cache_say_the_same_when_pages_run_out(
    name: str, pattern: Pattern, kernel: str, tmp_path: Path
) -> None:
    with using(Simulator(SimulatorOptions(mode="fast"))), watching() as launches:
        out, seen = crowded(worded(tmp_path, name), pattern)
    ran = {launch.source.name for launch in launches}
    assert out == without_kernels(name) and set(map(len, out.values())) == {LONG}
    assert kernel in ran and ran & BY_PATTERN <= {kernel}
    assert isinstance(seen.runner, Runner) and bool(seen.runner._tails) == (pattern == "tail")
    assert max(seen.computed.values()) > 1  # a sequence was preempted
    assert seen.given_back == name.startswith(WINDOWED)


def test_what_a_grammar_forces_is_computed_behind_what_was_decoded() -> None:
    """With logprobs, as on the CPU here, nothing is computed at once; both ways say the same."""
    held = Constraint(grammar="regex", definition='[a-z]{2}: "/v1/models"[,;]')

    def said(model: LoadedModel, logprobs: int | None) -> tuple[dict[int, list[int]], int]:
        tokens = model.tokenizer.encode(QUESTIONS[0], special=False)
        model.engine.submit(request_for(1, tokens, 16, constraint=held, logprobs=logprobs))
        model.engine.submit(request_for(2, tokens, 4))
        events = list(model.engine.run())
        return told(events), max(len(e.tokens) for e in events if isinstance(e, Token))

    with using(Nowhere()):
        oracle, one = said(serving(exact=True), 0)
    with using(Simulator()):
        at_once, most = said(serving("tail"), None)
    assert at_once == oracle and one == 1 and most > 3
