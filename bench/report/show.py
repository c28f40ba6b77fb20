"""A report on a GPU: as a table for the terminal, and as one HTML file that needs nothing else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from rich.console import Group, RenderableType
from rich.table import Table

from bessemer.bench.report.finding import Finding
from bessemer.bench.report.report import GpuReport

TEMPLATE = Path(__file__).with_name("page.html")
SIMULATED = "run in a CPU model of Metal: not Apple's compiler, not a GPU"
FEW = 12  # findings that the terminal names
LONG = 160  # characters of one of them there


def table(report: GpuReport) -> RenderableType:
    """Return the steps with their counts, and the first findings that are not fine."""
    shown = Table(
        "step", "", "findings", "seconds", title=SIMULATED if report.how.simulated else ""
    )
    for step in report.steps:
        found = report.of(step)
        counts = ", ".join(f"{count} {state}" for state, count in report.counts(step).items())
        seconds = f"{sum(each.seconds for each in found):.0f}"
        shown.add_row(step.name, step.title, counts or "not reached", seconds)
    wrong = [line(each) for each in report.wrong[:FEW]]
    more = len(report.wrong) - len(wrong)
    return Group(shown, *wrong, *([f"and {more} more"] if more else []))


def line(finding: Finding) -> str:
    where = ", ".join(part for part in (finding.step, finding.part, finding.item) if part)
    text = f"{where}: {finding.state}: {' '.join(finding.text.split())}"
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def page(report: GpuReport) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["pretty"] = pretty
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(report=report, simulated=SIMULATED, remarks=_remarks(report))


def _remarks(report: GpuReport) -> list[str]:
    """Say what keeps a report from being whole."""
    remarks = [SIMULATED[0].upper() + SIMULATED[1:]] if report.how.simulated else []
    if report.interrupted:
        remarks.append("Interrupted: what had been found until then")
    return remarks


def pretty(details: Mapping[str, Any]) -> str:
    """Return what is left of details without the kernels, which the page shows by themselves."""
    rest = {name: value for name, value in details.items() if name != "kernels"}
    return json.dumps(rest, indent=1, default=str, ensure_ascii=False)
