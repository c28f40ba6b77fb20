"""From what the rounds found to a report: medians, intervals, ratios, shares of the floor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from msgspec.structs import replace

from bessemer.bench.compare import report
from bessemer.bench.compare.contest import Case, Metric
from bessemer.bench.compare.floor import Floors
from bessemer.bench.compare.machine import Machine
from bessemer.bench.compare.metrics import METRICS, Limits, floor
from bessemer.bench.compare.report import Point, Ratio, Report, Row
from bessemer.bench.compare.rounds import Outcome, aligned
from bessemer.bench.compare.stats import paired, summary
from bessemer.bench.models.forms import UnderTest

EQUAL = 0.05  # weights whose bytes differ by more have another floor than ours


@dataclass(frozen=True, slots=True)
class Setting:
    """All of a run but what was found."""

    subject: str
    command: Sequence[str]
    machine: Machine
    rounds: int
    under: UnderTest
    cases: Sequence[Case]
    ours: str
    floor_note: str = ""


def tally(setting: Setting, outcome: Outcome) -> Report:
    under, hidden = setting.under, {str(setting.under.path): setting.under.name}
    return Report(
        schema=report.SCHEMA,
        subject=setting.subject,
        command=report.public(setting.command),
        when=report.moment(),
        machine=setting.machine,
        rounds=setting.rounds,
        model=report.model(under.name, under.stored, under.mark, under.cost),
        contestants=report.contestants(outcome.abouts),
        metrics=report.columns(METRICS[setting.subject]),
        cases=points(setting.cases),
        rows=rows(setting, outcome),
        floors=report.floors(outcome.floors),
        floor_note=setting.floor_note,
        troubles=[report.plain(text, hidden) for text in troubles(outcome)],
    )


def points(cases: Sequence[Case]) -> list[Point]:
    return [Point(case.name, case.tokens, case.context, case.streams) for case in cases]


def troubles(outcome: Outcome) -> list[str]:
    return [
        f"{label}{f', {case}' if case else ''}: {text}"
        for (label, case), text in outcome.troubles.items()
    ]


def rows(setting: Setting, outcome: Outcome) -> list[Row]:
    limits = _limits(outcome.floors)
    found: list[Row] = []
    for case in setting.cases:
        told: set[str] = set()  # remarks stand at a contestant's first figure of a case
        for metric in METRICS[setting.subject]:
            for row in _rows(setting, outcome, case, metric, limits):
                notes = outcome.notes.get((case.name, row.contestant), [])
                found.append(row if row.contestant in told else replace(row, notes=notes))
                told.add(row.contestant)
    return found


def _rows(
    setting: Setting, outcome: Outcome, case: Case, metric: Metric, limits: Limits | None
) -> list[Row]:
    columns = {
        about.label: aligned(setting.rounds, outcome.samples(case.name, about.label, metric.name))
        for about in outcome.abouts
    }
    least = floor(case, setting.under.cost, limits) if limits and metric.name == "speed" else None
    found = []
    for about in outcome.abouts:
        equal = _equal(about.bytes, setting.under.cost.bytes)
        row = _row(case.name, metric.name, about.label, columns, setting.ours)
        if row is not None:
            found.append(_with_floor(row, least) if equal else row)
    return found


def _row(
    case: str,
    metric: str,
    label: str,
    columns: Mapping[str, Sequence[float | None]],
    ours: str,
) -> Row | None:
    samples = [each for each in columns[label] if each is not None]
    if not samples:
        return None
    ratio = None
    if label != ours and ours in columns and (pairs := paired(columns[ours], columns[label])):
        of = summary(pairs)
        ratio = Ratio(of.median, of.low, of.high)
    of = summary(samples)
    numbers = (samples, of.median, of.low, of.high, of.least, of.most)
    return Row(case, metric, label, *numbers, ratio)


def _with_floor(row: Row, least: float | None) -> Row:
    if least is None:
        return row
    return replace(row, floor=least, of_floor=row.median / least)


def _equal(theirs: int, ours: int) -> bool:
    return not theirs or abs(theirs / ours - 1) <= EQUAL


def _limits(found: Sequence[Floors]) -> Limits | None:
    """In units, not in 10^9. Without an int8 or float figure there is no limit of a prompt."""
    if not found:
        return None
    operations = median(max(each.flops, each.int8) for each in found)
    return Limits(median(each.read for each in found) * 1e9, operations * 1e9)
