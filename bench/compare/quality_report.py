"""`bessemer bench quality`: the scores of our server, or of any URLs, as a report."""

from collections.abc import Sequence
from contextlib import ExitStack

from bessemer.bench.compare import report
from bessemer.bench.compare.contest import About, CaseFailed, Metric
from bessemer.bench.compare.machine import Machine, cores, describe
from bessemer.bench.compare.options import QualityOptions
from bessemer.bench.compare.participants import OURS, load_real, server
from bessemer.bench.compare.quality import METRIC, QualityScore, scores
from bessemer.bench.compare.report import BenchReport, Point, ResultRow
from bessemer.bench.contestants.endpoint import label_of
from bessemer.bench.contestants.servers import running


def quality_report(line: Sequence[str], options: QualityOptions) -> BenchReport:
    """Ask all URLs; without one, our own server, started on the model or on the built-in one."""
    machine = describe()
    with ExitStack() as stack:
        endpoints = [
            (About(label_of(url, number), "not said", {}), url)
            for number, url in enumerate(options.url or (), 1)
        ]
        if not endpoints:
            endpoints.append(_ours(options.model, stack))
        rows: list[ResultRow] = []
        troubles = []
        for about, url in endpoints:
            try:
                rows += [_row(about.label, score) for score in list(scores(url, options.ask_for))]
            except CaseFailed as failure:
                troubles.append(f"{about.label}: {failure}")
    if not rows:
        raise CaseFailed("; ".join(troubles))
    contestants = [each for each, _ in endpoints]
    return report_of(line, machine, contestants, METRIC, rows, troubles)


def report_of(
    line: Sequence[str],
    machine: Machine,
    contestants: Sequence[About],
    metric: Metric,
    rows: Sequence[ResultRow],
    troubles: Sequence[str] = (),
) -> BenchReport:
    """Return the report of one round, whose rows have a case each."""
    return BenchReport(
        schema=report.SCHEMA,
        benchmark="quality",
        command=report.public(line),
        when=report.moment(),
        machine=machine,
        rounds=1,
        model=None,
        contestants=report.contestants(contestants),
        metrics=report.columns([metric]),
        cases=[Point(case, 0, 0, 1) for case in dict.fromkeys(row.case for row in rows)],
        rows=list(rows),
        floors={},
        troubles=list(troubles),
    )


def _ours(name: str, stack: ExitStack) -> tuple[About, str]:
    model = load_real(name)
    command = server(model, cores(), "auto")
    url = stack.enter_context(running(command)).url
    settings = {**command.settings, "model": model.name}
    return About(OURS, command.version, settings, command.bytes), url


def _row(label: str, score: QualityScore) -> ResultRow:
    passed = float(score.passed)
    numbers = ([passed], passed, passed, passed, passed, passed)
    return ResultRow(
        score.name, METRIC.name, label, *numbers, notes=score.reasons, shown=score.shown
    )
