"""Compares this checkout with another one of the project, to see what became slower or larger.

    python -P -m bessemer.bench.compare.regression --base DIR [--rounds 10] [--only decode,server]

DIR is a checkout with its .venv (`make .venv/installed`). The two take turns within each round, and
a ratio is of one round. A figure is worse where its whole interval is worse by more than 2 %. It is
unclear where only an end of it is, and after fewer than 6 rounds. Exit status: 0, or 1 where a
figure is worse or missing.
"""

import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec
from rich import box
from rich.table import Table
from typer import Option

from bessemer.bench.command import FAILED, NAMES, command, flags_of, with_flags
from bessemer.bench.compare.checkout import SERVER, SPEED, STREAMS, Checkout
from bessemer.bench.compare.cli import progress
from bessemer.bench.compare.contest import Case, Metric, Unavailable
from bessemer.bench.compare.machine import Machine, describe
from bessemer.bench.compare.report import Column, Ratio
from bessemer.bench.compare.rounds import RoundResults, Terms, run
from bessemer.bench.compare.show import console, number
from bessemer.bench.compare.stats import paired, summary
from bessemer.bench.compare.summary import troubles
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.http.hub import BUILT_IN_NAME

BEFORE, AFTER = "before", "after"
LIMIT = 0.02
MIN_ROUNDS = 6  # with fewer, even the extremes hold the median less often than in 95 %
CONTEXT = 32  # tokens before those that are decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionOptions:
    """The two checkouts, what is measured of them, and how often."""

    # fmt: off
    base: Annotated[str, Option(metavar="DIR", help="The checkout before.")]
    rounds: Annotated[int, Option(min=1, metavar="N", help="How often all is measured.")] = 10
    only: Annotated[tuple[str, ...], Option(
        **NAMES, help="decode, prefill, batch, built-in, server.",
    )] = ()
    shape: Annotated[str, Option(help="Of random 4-bit weights.")] = "llama-3.2-1b"
    tokens: Annotated[int, Option(min=1, metavar="N", help="Of a decoding stream.")] = 128
    prompt: Annotated[int, Option(min=1, metavar="N", help="Tokens of a prefill.")] = 512
    seconds: Annotated[float, Option(help="Of GETs.")] = 2
    json: Annotated[bool, Option("--json", help="Print JSON instead of a table.")] = False
    # fmt: on


class Figure(msgspec.Struct, frozen=True):
    """One metric of both checkouts, round by round; `ratio` is after / before."""

    column: Column
    before: list[float]
    after: list[float]
    ratio: Ratio
    verdict: str


class Comparison(msgspec.Struct, frozen=True):
    """The figures of a run; `checkouts` holds what each says of itself."""

    machine: Machine
    rounds: int
    checkouts: dict[str, str]
    figures: list[Figure]
    troubles: list[str]


def cases(options: RegressionOptions) -> list[Case]:
    """Return the cases that --only names, or all; Unavailable for one that is not there."""
    tokens, model = options.tokens, options.shape
    known = {
        "decode": Case("decode", f"{model}: decode", tokens, CONTEXT),
        "prefill": Case("prefill", f"{model}: prefill of {options.prompt}", options.prompt),
        "batch": Case("batch", f"{model}: {STREAMS} streams", tokens, CONTEXT, STREAMS),
        "built-in": Case("decode", BUILT_IN_NAME, 8 * tokens, CONTEXT),
        "server": Case("server", "server", 4 * tokens),
    }
    if wrong := set(options.only) - set(known):
        raise Unavailable(f"--only knows {', '.join(known)}, not {', '.join(sorted(wrong))}")
    return [known[name] for name in options.only or known]


def checkouts(options: RegressionOptions) -> list[Checkout]:
    """Return the base, then this one; Unavailable where the base has no interpreter."""
    base = Path(options.base).absolute()
    if not (base / ".venv" / "bin" / "python").exists():
        raise Unavailable(f"{base} has no .venv: run `make -C {base} .venv/installed`")
    model = checkpoint(shape(options.shape), Storage(), seed=1)
    venvs = {BEFORE: base / ".venv", AFTER: Path(sys.prefix)}
    return [Checkout(label, venv, model, options.seconds) for label, venv in venvs.items()]


def compare(options: RegressionOptions) -> Comparison:
    planned, contestants, machine = cases(options), checkouts(options), describe()
    with progress() as tell:
        results = run(contestants, planned, Terms(options.rounds, 0, seed=1), tell)
    descriptions = {
        about.label: ", ".join(
            [about.version, *(f"{name} {value}" for name, value in about.settings.items())]
        )
        for about in results.abouts
    }
    ratios = list(figures(planned, results))
    return Comparison(machine, options.rounds, descriptions, ratios, troubles(results))


def figures(planned: Sequence[Case], results: RoundResults) -> Iterator[Figure]:
    """Yield what was measured of both in all rounds."""
    for case in planned:
        served = case.benchmark == "server"
        for metric in SERVER if served else (SPEED,):
            before, after = (_samples(results, case, metric, side) for side in (BEFORE, AFTER))
            if len(before) == len(after) and (ratios := paired(after, before)):
                title = f"{case.name}: {metric}" if served else f"{case.name}, {metric.unit}"
                names = (metric.name, metric.unit, title)
                column = Column(*names, metric.more_is_better, metric.digits)
                spread = summary(ratios)
                ratio = Ratio(spread.median, spread.low, spread.high)
                result = verdict(ratio, metric.more_is_better, len(ratios))
                yield Figure(column, before, after, ratio, result)


def _samples(results: RoundResults, case: Case, metric: Metric, label: str) -> list[float]:
    samples = results.samples(case.name, label, metric.name)
    return [each for each in samples if each is not None]


def verdict(ratio: Ratio, more_is_better: bool, rounds: int) -> str:
    losses = [1 - ratio.low, 1 - ratio.high] if more_is_better else [ratio.low - 1, ratio.high - 1]
    if rounds < MIN_ROUNDS:
        return "unclear"
    if min(losses) > LIMIT:
        return "worse"
    return "unclear" if max(losses) > LIMIT else "not worse"


def table(comparison: Comparison) -> Table:
    """Return a line for each figure, in markdown, so that it can stand in the log as it is."""
    headings = ("", BEFORE, AFTER, f"{AFTER} / {BEFORE} (95 %)", f"by over {LIMIT * 100:.0f} %")
    shown = Table(*headings, box=box.MARKDOWN)
    for each in comparison.figures:
        medians = [number(median(side), each.column) for side in (each.before, each.after)]
        ratio = f"{each.ratio.median:.3f}"
        if len(each.before) > 1:  # one round has no interval
            ratio += f" ({each.ratio.low:.3f} to {each.ratio.high:.3f})"
        shown.add_row(each.column.title, *medians, ratio, each.verdict)
    return shown


def facts(comparison: Comparison) -> Iterator[str]:
    machine = comparison.machine
    yield from (f"{label}: {text}" for label, text in comparison.checkouts.items())
    yield f"{comparison.rounds} interleaved rounds on {machine}; load before: {machine.load}"
    yield from comparison.troubles


@command(__doc__)
@with_flags(flags_of(RegressionOptions))
def main(**values: Any) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = RegressionOptions(**values)
    comparison = compare(options)
    if options.json:
        print(msgspec.json.encode(comparison).decode())
    else:
        console().print(table(comparison))
        print(*facts(comparison), sep="\n")
    worse = any(each.verdict == "worse" for each in comparison.figures)
    return FAILED if worse or comparison.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
