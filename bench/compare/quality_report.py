"""`bessemer bench quality`: the scores of our server, or of any URLs, as a report."""

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack

from bessemer.bench.compare import report
from bessemer.bench.compare.contest import About, Failed
from bessemer.bench.compare.machine import describe
from bessemer.bench.compare.participants import OURS, recipe
from bessemer.bench.compare.quality import METRIC, Score, scores
from bessemer.bench.compare.report import Point, Report, Row
from bessemer.bench.contestants.endpoint import label_of
from bessemer.bench.contestants.servers import started
from bessemer.bench.models.forms import real
from bessemer.http import hub
from bessemer.http.config import hub_cache


def judged(line: Sequence[str], options: argparse.Namespace) -> Report:
    """Without a URL our own server is started on the model, or on the built-in one."""
    machine = describe()
    with ExitStack() as stack:
        asked: list[tuple[About, str]] = []
        for number, url in enumerate(options.url):
            asked.append((About(label_of(url, number + 1), "not said", {}), url))
        if not options.url:
            asked.append(_ours(options, stack))
        found: dict[str, list[Score]] = {}
        troubles = []
        for about, url in asked:
            try:
                found[about.label] = list(scores(url, options.ask_for))
            except Failed as failure:
                troubles.append(f"{about.label}: {failure}")
    rows = [_row(label, score) for label, each in found.items() for score in each]
    return Report(
        schema=report.SCHEMA,
        subject="quality",
        command=report.public(line),
        when=report.moment(),
        machine=machine,
        rounds=1,
        model=None,
        contestants=report.contestants([about for about, _ in asked]),
        metrics=report.columns([METRIC]),
        cases=[Point(case, 0, 0, 1) for case in dict.fromkeys(row.case for row in rows)],
        rows=rows,
        floors={},
        troubles=troubles,
    )


def _ours(options: argparse.Namespace, stack: ExitStack) -> tuple[About, str]:
    asked = options.model or hub.BUILT_IN_NAME
    path = hub.resolve(asked, False, hub_cache(os.environ))
    under = real(hub.name_of(asked, path), path, None)
    ours = recipe(under, options)
    server = stack.enter_context(started(ours))
    return About(OURS, ours.version, {**ours.settings, "model": under.name}, ours.bytes), server.url


def _row(label: str, score: Score) -> Row:
    passed = float(score.passed)
    numbers = ([passed], passed, passed, passed, passed, passed)
    return Row(score.name, METRIC.name, label, *numbers, notes=score.reasons, shown=score.shown)
