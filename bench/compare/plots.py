"""The plots of a report, each as an SVG text; matplotlib is an extra that only they need."""

import importlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.compare.report import BenchReport, Point, ReportedModel, ResultRow
from bessemer.engine.command_line import install

SIZE = (7.0, 4.0)  # inches
NARROW, WIDE = 0.25, 16384.0  # operations a byte at the ends of a roofline
PERCENTILES = (("ttft", "ttft p95"), ("gap", "gap p95"))


def require_matplotlib() -> Any:
    """Return matplotlib's figures, drawn without a display. Raises Unavailable."""
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ModuleNotFoundError:
        raise Unavailable(
            "--html draws plots with matplotlib, which is not installed: " + install("matplotlib")
        ) from None
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bessemer"
    return importlib.import_module("matplotlib.figure")


def plots(report: BenchReport) -> Iterator[tuple[str, str]]:
    """Yield title and SVG of whatever this report has the figures for."""
    require_matplotlib()
    if report.benchmark in ("batch", "serve"):
        yield "Throughput over concurrency", throughput(report)
    elif report.benchmark in ("decode", "prefill"):
        yield "Speed", bars(report, "speed")
    else:
        for column in report.metrics:
            if any(row.metric == column.name and not row.shown for row in report.rows):
                yield column.title, bars(report, column.name)
    if report.benchmark == "serve":
        yield "Latency percentiles over concurrency", latencies(report)
    if report.model and report.floor("read, GB/s") and report.floor("float32, GFLOP/s"):
        yield "Roofline", roofline(report, report.model)


def draw(paint: Callable[[Any], None], wide: float = 1) -> str:
    """Return the SVG text of what `paint` does to a figure, `wide` times as wide as others."""
    figure = require_matplotlib().Figure(figsize=(SIZE[0] * wide, SIZE[1]), layout="constrained")
    paint(figure)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return re.sub(r"^.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)


def throughput(report: BenchReport) -> str:
    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for label in labels(report):
            _line(axes, report, label, "speed")
        _floor_line(axes, report)
        _streams_axis(axes, report, "tok/s over all streams")
        axes.set_ylim(bottom=0)

    return draw(paint)


def latencies(report: BenchReport) -> str:
    """Draw medians solid, 95th percentiles dashed."""

    def paint(figure: Any) -> None:
        for axes, (middle, high) in zip(figure.subplots(1, 2), PERCENTILES, strict=True):
            for number, label in enumerate(labels(report)):
                _line(axes, report, label, middle, f"C{number}", "-", f"{label}, p50")
                _line(axes, report, label, high, f"C{number}", "--", f"{label}, p95")
            axes.set_yscale("log")
            _streams_axis(axes, report, f"{middle}, ms")

    return draw(paint, wide=2)


def bars(report: BenchReport, metric: str) -> str:
    """Draw medians with their intervals, in groups by case."""
    column = next(each for each in report.metrics if each.name == metric)
    names = labels(report)
    width = 0.8 / len(names)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for place, label in enumerate(names):
            rows = {row.case: row for row in report.rows if _is(row, label, metric)}
            shown = [(n, rows[c.name]) for n, c in enumerate(report.cases) if c.name in rows]
            heights = [row.median for _, row in shown]
            errors = [
                [row.median - row.low for _, row in shown],
                [row.high - row.median for _, row in shown],
            ]
            spots = [n + place * width for n, _ in shown]
            axes.bar(spots, heights, width * 0.95, yerr=errors, capsize=3, label=label)
        middle = (len(names) - 1) * width / 2
        axes.set_xticks([n + middle for n in range(len(report.cases))])
        axes.set_xticklabels([case.name for case in report.cases])
        axes.set_ylabel(column.unit)
        axes.legend()

    return draw(paint)


def roofline(report: BenchReport, model: ReportedModel) -> str:
    """Draw operations a second over operations per byte read, under what the machine can do."""
    read, flops = (report.floor(name) for name in ("read, GB/s", "float32, GFLOP/s"))
    assert read is not None and flops is not None
    roofs = [("float32", flops.median)]
    if int8 := report.floor("int8, GOP/s"):
        roofs.append(("int8", int8.median))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for name, top in roofs:
            places = [NARROW, top / read.median, WIDE]
            axes.plot(places, [read.median * NARROW, top, top], color="grey", lw=1)
            axes.annotate(f"{name} {top:.0f} G/s", (WIDE, top), ha="right", va="bottom")
        for label in labels(report):
            spots = [_spot(report, model, row) for row in report.rows if _is(row, label, "speed")]
            axes.plot(*zip(*spots, strict=True), "o", label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("operations per byte of weights and cache")
        axes.set_ylabel("10^9 operations a second")
        axes.legend()

    return draw(paint)


def _spot(report: BenchReport, model: ReportedModel, row: ResultRow) -> tuple[float, float]:
    case = next(each for each in report.cases if each.name == row.case)
    size = next(each.bytes for each in report.contestants if each.label == row.contestant)
    larger = size / model.bytes if size else 1.0
    return intensity(report.benchmark, model, case, larger), row.median * model.flops / 1e9


def intensity(benchmark: str, model: ReportedModel, case: Point, larger: float = 1.0) -> float:
    """Return operations a byte: all tokens of a prompt, or one of each stream, share the weights.

    A contestant's weights may be `larger` than the model's.
    """
    together = case.tokens if benchmark == "prefill" else case.streams
    cache = case.context * model.kv_bytes * case.streams
    return together * model.flops / (model.read * larger + cache)


def labels(report: BenchReport) -> list[str]:
    shown = {row.contestant for row in report.rows}
    return [each.label for each in report.contestants if each.label in shown]


def _is(row: ResultRow, label: str, metric: str) -> bool:
    return row.contestant == label and row.metric == metric


def _line(
    axes: Any,
    report: BenchReport,
    label: str,
    metric: str,
    colour: str | None = None,
    style: str = "-",
    name: str = "",
) -> None:
    rows = {row.case: row for row in report.rows if _is(row, label, metric)}
    shown = [(case.streams, rows[case.name]) for case in report.cases if case.name in rows]
    if not shown:
        return
    places = [streams for streams, _ in shown]
    medians = [row.median for _, row in shown]
    (line,) = axes.plot(places, medians, style, marker="o", color=colour, label=name or label)
    low, high = [row.low for _, row in shown], [row.high for _, row in shown]
    axes.fill_between(places, low, high, color=line.get_color(), alpha=0.15)


def _floor_line(axes: Any, report: BenchReport) -> None:
    floors = {row.case: row.floor for row in report.rows if row.floor}
    points = [(c.streams, floors[c.name]) for c in report.cases if c.name in floors]
    if points:
        axes.plot(*zip(*points, strict=True), ":", color="grey", label="memory floor")


def _streams_axis(axes: Any, report: BenchReport, title: str) -> None:
    places: Sequence[int] = [case.streams for case in report.cases]
    axes.set_xscale("log", base=2)
    axes.set_xticks(places)
    axes.set_xticklabels(map(str, places))
    axes.set_xlabel("streams")
    axes.minorticks_off()
    axes.set_ylabel(title)
    axes.legend()
