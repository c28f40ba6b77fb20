"""A report as one HTML file that needs nothing else: table, facts, plots."""

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from bessemer.bench.compare.plots import plots
from bessemer.bench.compare.report import BenchReport
from bessemer.bench.compare.show import facts, headings, lines

TEMPLATE = Path(__file__).with_name("page.html")


def page(report: BenchReport) -> str:
    """Return the page; Unavailable without matplotlib."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    model = f", {report.model.title}" if report.model else ""
    return template.render(
        title=f"bessemer bench {report.benchmark}{model}",
        report=report,
        headings=headings(report),
        lines=list(lines(report)),
        facts=list(facts(report)),
        plots=list(plots(report)),
    )
