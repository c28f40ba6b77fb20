"""A report of what the rounds measured: medians, intervals, ratios, shares of the floor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from msgspec.structs import replace

from bessemer.bench.compare import report
from bessemer.bench.compare.contest import Case, Metric
from bessemer.bench.compare.floor import Floors
from bessemer.bench.compare.machine import Machine
from bessemer.bench.compare.metrics import METRICS, MachineLimits, floor
from bessemer.bench.compare.report import BenchReport, Point, Ratio, ResultRow
from bessemer.bench.compare.rounds import RoundResults, aligned
from bessemer.bench.compare.stats import paired, summary
from bessemer.bench.models.forms import BenchModel

EQUAL = 0.05  # weights whose bytes differ by more have another floor than ours


@dataclass(frozen=True, slots=True)
class RunDescription:
    """The words of a report on a run, beside its figures."""

    benchmark: str
    command: Sequence[str]
    machine: Machine
    rounds: int
    model: BenchModel
    cases: Sequence[Case]
    ours: str
    floor_note: str = ""


def summarize(run: RunDescription, results: RoundResults) -> BenchReport:
    model, hidden = run.model, {str(run.model.path): run.model.name}
    return BenchReport(
        schema=report.SCHEMA,
        benchmark=run.benchmark,
        command=report.public(run.command),
        when=report.moment(),
        machine=run.machine,
        rounds=run.rounds,
        model=report.model(model.name, model.stored, model.mark, model.cost),
        contestants=report.contestants(results.abouts),
        metrics=report.columns(METRICS[run.benchmark]),
        cases=points(run.cases),
        rows=rows(run, results),
        floors=report.floors(results.floors),
        floor_note=run.floor_note,
        troubles=[report.plain(text, hidden) for text in troubles(results)],
    )


def points(cases: Sequence[Case]) -> list[Point]:
    return [Point(case.name, case.tokens, case.context, case.streams) for case in cases]


def troubles(results: RoundResults) -> list[str]:
    return [
        f"{label}{f', {case}' if case else ''}: {text}"
        for (label, case), text in results.troubles.items()
    ]


def rows(run: RunDescription, results: RoundResults) -> list[ResultRow]:
    limits = _limits(results.floors)
    shown: list[ResultRow] = []
    for case in run.cases:
        remarked: set[str] = set()  # remarks stand at a contestant's first figure of a case
        for metric in METRICS[run.benchmark]:
            for row in _rows(run, results, case, metric, limits):
                notes = results.notes.get((case.name, row.contestant), [])
                shown.append(row if row.contestant in remarked else replace(row, notes=notes))
                remarked.add(row.contestant)
    return shown


def _rows(
    run: RunDescription,
    results: RoundResults,
    case: Case,
    metric: Metric,
    limits: MachineLimits | None,
) -> list[ResultRow]:
    columns = {
        about.label: aligned(run.rounds, results.samples(case.name, about.label, metric.name))
        for about in results.abouts
    }
    limit = floor(case, run.model.cost, limits) if limits and metric.name == "speed" else None
    shown = []
    for about in results.abouts:
        equal = _equal(about.bytes, run.model.cost.bytes)
        row = _row(case.name, metric.name, about.label, columns, run.ours)
        if row is not None:
            shown.append(_with_floor(row, limit) if equal else row)
    return shown


def _row(
    case: str,
    metric: str,
    label: str,
    columns: Mapping[str, Sequence[float | None]],
    ours: str,
) -> ResultRow | None:
    samples = [each for each in columns[label] if each is not None]
    if not samples:
        return None
    ratio = None
    if label != ours and ours in columns and (pairs := paired(columns[ours], columns[label])):
        ratios = summary(pairs)
        ratio = Ratio(ratios.median, ratios.low, ratios.high)
    of_all = summary(samples)
    numbers = (samples, of_all.median, of_all.low, of_all.high, of_all.minimum, of_all.maximum)
    return ResultRow(case, metric, label, *numbers, ratio)


def _with_floor(row: ResultRow, limit: float | None) -> ResultRow:
    if limit is None:
        return row
    return replace(row, floor=limit, of_floor=row.median / limit)


def _equal(theirs: int, ours: int) -> bool:
    return not theirs or abs(theirs / ours - 1) <= EQUAL


def _limits(floors: Sequence[Floors]) -> MachineLimits | None:
    """Return limits in units, not in 10^9; without int8 or float figures a prompt has none."""
    if not floors:
        return None
    operations = median(max(each.flops, each.int8) for each in floors)
    return MachineLimits(median(each.read for each in floors) * 1e9, operations * 1e9)
