"""Steps about whole models: writing in place, golden logits, the built-in model's answers."""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import mlx.core as mx

from bessemer.bench.report.finding import How, Item, Outcome
from bessemer.bench.report.kernels import devices
from bessemer.engine.request import Request, Sampling, Token
from bessemer.engine.serving import load
from bessemer.engine.settings import Pattern, Settings
from bessemer.http.hub import BUILT_IN
from bessemer.kernels.attention.attention_metal import self_test
from bessemer.kernels.metal.device import Device, Nowhere, using

ROOT = Path(__file__).parents[2]  # of a checkout, which has the tests' golden files
TOLERANCE = 3e-4  # of logits near 1, in float32
QUESTIONS = ("How do I serve a model?", "What is a paged cache?")
PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
TOKENS, MEMORY = 40, 10**9
AHEAD: tuple[Literal["off", "on"], ...] = (
    "off",
    "on",
)  # whether a step is submitted before the one before is read


def patterns(_: str, how: How) -> Iterator[Item]:
    """Try whether the device keeps to writing in place."""
    yield "in place", partial(_self_tested, devices(how)[0], 45 if how.simulated else 2000)


def _self_tested(device: Device, steps: int) -> Outcome:
    with using(device):
        kept = self_test(steps)
    text = "what one kernel writes through a pointer the next does not read: --metal-kv in-place"
    return Outcome(details={"steps": steps}) if kept else Outcome("wrong", f"{text} is not used")


def golden(_: str, how: How) -> Iterator[Item]:
    """Feed each golden checkpoint two prompts, cut and joined, and compare with its logits."""
    if not (ROOT / "tests" / "architectures" / "golden").is_dir():
        yield "", lambda: Outcome("left out", "only a checkout has the golden checkpoints")
        return
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    feeding: Any = import_module("tests.architectures.test_metal")
    for name in feeding.KINDS:
        yield name, partial(_golden, feeding, name, devices(how)[0])


def _golden(feeding: Any, name: str, device: Device) -> Outcome:
    with using(device):
        session = feeding.Session(feeding.loaded(name), feeding.max_len)
        errors = feeding.differences(name, feeding.fed(session))
    worst = max(errors)
    if worst <= TOLERANCE:  # not for NaN
        return Outcome(details={"off": worst})
    text = f"logits are off by {worst:.2g}, over {TOLERANCE:g}"
    return Outcome("wrong", text, {"largest difference of each row": errors})


def answers(_: str, how: How) -> Iterator[Item]:
    """Ask the built-in model in every pattern of the cache, at both depths of the pipeline."""
    asked = QUESTIONS[:1] if how.simulated else QUESTIONS
    for pattern in get_args(Pattern):
        for ahead in AHEAD:
            settings = Settings(
                max_batch=4, queue=8, chunk=64, metal_kv=pattern, async_scheduling=ahead
            )
            name = f"{pattern}, a step ahead {ahead}"
            yield name, partial(_answered, settings, devices(how)[0], asked)


def _answered(settings: Settings, device: Device, asked: tuple[str, ...]) -> Outcome:
    with using(device):
        ours, decode = answer(asked, settings)
    right, _ = _on_cpu(asked)
    if ours == right:
        return Outcome(details={"tokens": list(map(len, ours))})
    question, got, exact = next(
        each for each in zip(asked, ours, right, strict=True) if each[1] != each[2]
    )
    pairs = enumerate(zip(got, exact, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(got), len(exact)))
    said = {"ours": decode(got), "the CPU's": decode(exact), "tokens": [got, exact]}
    return Outcome("wrong", f"{question} Not the CPU's answer from token {place} on", said)


def answer(
    asked: Sequence[str], settings: Settings
) -> tuple[list[list[int]], Callable[[Sequence[int]], str]]:
    """Return the built-in model's greedy tokens for each question, and what makes them a text."""
    model = load(BUILT_IN, settings, memory=MEMORY)
    out: list[list[int]] = [[] for _ in asked]
    for number, question in enumerate(asked):
        prompt = model.tokenizer.encode(PROMPT.format(question), special=False)
        sampling = Sampling(temperature=0)
        model.engine.submit(Request(id=number, tokens=prompt, max_tokens=TOKENS, sampling=sampling))
    for event in model.engine.run():
        if isinstance(event, Token):
            out[event.request].extend(event.tokens)
    return out, model.tokenizer.decode


def _on_cpu(asked: Sequence[str]) -> tuple[list[list[int]], Callable[[Sequence[int]], str]]:
    """Answer in float32 on the CPU."""
    before = mx.default_device()
    mx.set_default_device(mx.Device(mx.DeviceType.cpu))
    try:
        with using(Nowhere()):
            return answer(asked, Settings(max_batch=4, queue=8, chunk=64, cpu_precision="exact"))
    finally:
        mx.set_default_device(before)
