"""A report as a terminal table, and as an entry of bench/LOG.md."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table

from bessemer.bench.command import keep
from bessemer.bench.compare.report import BenchReport, Column, ResultRow

HEADING = "## "
WIDE = 150
BUSY = 0.5  # processes that ran on average in the minute before


def table(report: BenchReport) -> RenderableType:
    shown = Table(*headings(report))
    for number, cells in enumerate(lines(report)):
        if number and cells[0]:
            shown.add_section()
        shown.add_row(*cells)
    return Group(shown, *facts(report))


def console(to_error: bool = False) -> Console:
    """Return a console, which is wide where it writes to a file, as that has no width."""
    terminal = Console(stderr=to_error, highlight=False, markup=False)
    return terminal if terminal.is_terminal else Console(stderr=to_error, width=WIDE, markup=False)


def headings(report: BenchReport) -> list[str]:
    """Return the columns; those that are empty throughout are left out, by `lines` too."""
    columns = ["", "", "median", "95 % of the median", "least to most"]
    columns += ["ours / theirs (95 %)"] if _has_ratio(report) else []
    columns += ["of the floor"] if _has_floor(report) else []
    return [*columns, "remarks"] if any(row.notes for row in report.rows) else columns


def _has_ratio(report: BenchReport) -> bool:
    return any(row.ratio for row in report.rows)


def _has_floor(report: BenchReport) -> bool:
    return any(row.floor for row in report.rows)


def lines(report: BenchReport) -> Iterator[list[str]]:
    """Yield the cells of each line; a case and metric are named on the first of their lines."""
    several = len(report.metrics) > 1
    for case in report.cases:
        for column in report.metrics:
            rows = report.find(case.name, column.name)
            name = column.title if case.name == report.benchmark else case.name
            if several and case.name != report.benchmark:
                name = f"{case.name}: {column.title}"
            elif column.unit and not several:
                name = f"{case.name}, {column.unit}"
            for number, row in enumerate(rows):
                yield ["" if number else name, row.contestant, *_cells(report, column, row)]


def _cells(report: BenchReport, column: Column, row: ResultRow) -> Iterator[str]:
    if row.shown:
        yield from (row.shown, "", "")
    else:
        yield number(row.median, column)
        yield spread(row, number(row.low, column), number(row.high, column))
        yield spread(row, number(row.minimum, column), number(row.maximum, column))
    if _has_ratio(report):
        ratio = row.ratio
        interval = f" ({spread(row, f'{ratio.low:.2f}', f'{ratio.high:.2f}')})" if ratio else ""
        yield f"{ratio.median:.2f}{interval.replace(' ()', '')}" if ratio else ""
    if _has_floor(report):
        yield f"{share(row.of_floor)} of {row.floor:.1f}" if row.floor and row.of_floor else ""
    if any(each.notes for each in report.rows):
        yield "; ".join(row.notes)


def spread(row: ResultRow, low: str, high: str) -> str:
    """Write from where to where; nothing for one round, which has no spread."""
    return f"{low} to {high}" if len(row.samples) > 1 else ""


def share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 else f"{value:.2%}"


def number(value: float, column: Column) -> str:
    """Format a value; small ones keep three digits that count."""
    digits = column.digits
    while 0 < abs(value) < 10 ** (1 - digits) and digits < 4:
        digits += 1
    return f"{value:.{digits}f}"


def facts(report: BenchReport) -> Iterator[str]:
    """Yield what must stand beside the figures for them to mean something."""
    if report.model:
        yield f"model: {report.model.title}, {report.model.parameters / 1e6:.1f} M parameters"
    for contestant in report.contestants:
        size = f", {contestant.bytes / 1e6:.1f} MB of weights" if contestant.bytes else ""
        bits = ""
        if contestant.bytes and report.model:
            bits = f" ({contestant.bytes * 8 / report.model.parameters:.2f} bits each)"
        yield f"{contestant.title}{size}{bits}"
    floors = {name: floor for name in report.floors if (floor := report.floor(name))}
    if floors:
        once = all(len(row.samples) == 1 for row in report.rows)
        parts = (
            f"{name} {floor.median:.1f}"
            + ("" if once else f" ({floor.minimum:.1f} to {floor.maximum:.1f})")
            for name, floor in floors.items()
        )
        yield f"the machine's floor in the same rounds: {'; '.join(parts)}"
    if report.floor_note:
        yield report.floor_note
    load = report.machine.load
    idle = "" if load is None else f"; load before: {load}{', not idle' if load > BUSY else ''}"
    rounds = f"{report.rounds} interleaved rounds" if report.rounds > 1 else "one round"
    yield f"{rounds} on {report.machine}{idle}"
    yield from report.troubles


def entry(report: BenchReport) -> str:
    """Return the markdown of one result, for bench/LOG.md."""
    model = f", {report.model.title}" if report.model else ""
    head = headings(report)
    body = "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines(report)
    )
    notes = "\n".join(f"- {fact}" for fact in facts(report))
    return (
        f"{HEADING}{report.when[:10]}: {report.benchmark}{model}\n\n"
        f"```\n{' '.join(report.command)}\n```\n\n"
        f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n{body}\n\n{notes}\n"
    )


def prepend(log: Path, text: str) -> None:
    """Put an entry above the newest one, under the page's introduction."""
    old = log.read_text(encoding="utf-8")
    at = old.find(f"\n{HEADING}") + 1
    at = at or len(old)
    gap = "" if old[:at].endswith("\n\n") else "\n"
    keep("--log", log, f"{old[:at]}{gap}{text}\n{old[at:]}")
