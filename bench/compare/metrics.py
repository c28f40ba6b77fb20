"""What each command measures: its cases, its metrics, and the machine's limit of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bessemer.bench.compare.contest import Case, Metric
from bessemer.bench.models.cost import Cost

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
    """What the flags of a command say."""

    tokens: int
    contexts: Sequence[int]
    lengths: Sequence[int]
    streams: Sequence[int]


def cases(subject: str, amounts: Amounts) -> list[Case]:
    tokens, context = amounts.tokens, amounts.contexts[0]
    if subject == "decode":
        return [Case(subject, f"context {c}", tokens, c) for c in amounts.contexts]
    if subject == "prefill":
        return [Case(subject, f"prompt {length}", length) for length in amounts.lengths]
    if subject in ("batch", "serve"):
        return [Case(subject, plural(n), tokens, context, n) for n in amounts.streams]
    return [Case(subject, subject, tokens, context)]


def plural(streams: int) -> str:
    return f"{streams} stream{'s' if streams > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Medians of the floors measured in the run: bytes and operations a second."""

    read: float
    operations: float


def floor(case: Case, cost: Cost, limits: Limits) -> float | None:
    """The tokens a second if only memory, or for a prompt arithmetic, had to be waited for.

    While a token is made the cache grows: its context is counted in the middle.
    """
    known: Mapping[str, Callable[[], float]] = {
        "decode": lambda: limits.read / cost.read_at(case.context + case.tokens / 2),
        "batch": lambda: (
            case.streams * limits.read / cost.read_at(case.context + case.tokens / 2, case.streams)
        ),
        "prefill": lambda: limits.operations / cost.prompt_flops,
    }
    found = known[case.subject]() if case.subject in known else 0.0
    return found or None
