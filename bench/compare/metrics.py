"""The cases and metrics of each benchmark, and the machine's limit of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bessemer.bench.compare.contest import Case, Metric
from bessemer.bench.models.cost import ModelCost

SPEED = (Metric("speed", "tok/s"),)
METRICS: Mapping[str, tuple[Metric, ...]] = {
    "decode": SPEED,
    "prefill": SPEED,
    "batch": SPEED,
    "serve": (
        *SPEED,
        Metric("ttft", "ms", more_is_better=False),
        Metric("ttft p95", "ms", more_is_better=False),
        Metric("gap", "ms", more_is_better=False, digits=2),
        Metric("gap p95", "ms", more_is_better=False, digits=2),
        Metric("cpu", "µs of the server process a token", more_is_better=False, digits=0),
    ),
    "load": (
        Metric("run", "s from shell to first token", more_is_better=False, digits=3),
        Metric("ready", "s from start to ready", more_is_better=False, digits=3),
        Metric("first", "s from start to first token", more_is_better=False, digits=3),
        Metric("peak", "MB at most, all processes", more_is_better=False, digits=0),
    ),
    "memory": (
        Metric("loaded", "MB (PSS) after load", more_is_better=False, digits=0),
        Metric("after", "MB (PSS) after a generation", more_is_better=False, digits=0),
        Metric("plain", "MB of it without the KV pool", more_is_better=False, digits=0),
        Metric("over", "of the checkpoint's size, without the KV pool", False, digits=3),
        Metric("whole", "MB (PSS) of all processes", more_is_better=False, digits=0),
    ),
}


@dataclass(frozen=True, slots=True)
class Amounts:
    """The amounts that are measured, as the flags of a command say."""

    tokens: int
    contexts: Sequence[int]
    lengths: Sequence[int]
    streams: Sequence[int]


def cases(benchmark: str, amounts: Amounts) -> list[Case]:
    tokens, context = amounts.tokens, amounts.contexts[0]
    if benchmark == "decode":
        return [Case(benchmark, f"context {c}", tokens, c) for c in amounts.contexts]
    if benchmark == "prefill":
        return [Case(benchmark, f"prompt {length}", length) for length in amounts.lengths]
    if benchmark in ("batch", "serve"):
        return [Case(benchmark, plural(n), tokens, context, n) for n in amounts.streams]
    return [Case(benchmark, benchmark, tokens, context)]


def plural(streams: int) -> str:
    return f"{streams} stream{'s' if streams > 1 else ''}"


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """Medians of the floors measured in the run: bytes and operations a second."""

    read: float
    operations: float


def floor(case: Case, cost: ModelCost, limits: MachineLimits) -> float | None:
    """Return the tokens a second if only memory, or for a prompt arithmetic, took time.

    The cache grows while tokens are generated: a context is counted in the middle.
    """
    known: Mapping[str, Callable[[], float]] = {
        "decode": lambda: limits.read / cost.read_at(case.context + case.tokens / 2),
        "batch": lambda: (
            case.streams * limits.read / cost.read_at(case.context + case.tokens / 2, case.streams)
        ),
        "prefill": lambda: limits.operations / cost.prompt_flops,
    }
    limit = known[case.benchmark]() if case.benchmark in known else 0.0
    return limit or None
