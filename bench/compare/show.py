"""A report as a terminal table, and as an entry of bench/LOG.md."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table

from bessemer.bench.compare.report import Column, Report, Row

HEADING = "## "
WIDE = 150
BUSY = 0.5  # processes that ran on average in the minute before


def table(report: Report) -> RenderableType:
    shown = Table(*headings(report))
    for number, cells in enumerate(lines(report)):
        if number and cells[0]:
            shown.add_section()
        shown.add_row(*cells)
    return Group(shown, *facts(report))


def console(to_error: bool = False) -> Console:
    """Wide where it goes to a file, which has no width of its own."""
    found = Console(stderr=to_error, highlight=False, markup=False)
    return found if found.is_terminal else Console(stderr=to_error, width=WIDE, markup=False)


def headings(report: Report) -> list[str]:
    """Columns that are empty throughout are left out by `lines` too."""
    found = ["", "", "median", "95 % of the median", "least to most"]
    found += ["ours / theirs (95 %)"] if _has_ratio(report) else []
    found += ["of the floor"] if _has_floor(report) else []
    return [*found, "remarks"] if any(row.notes for row in report.rows) else found


def _has_ratio(report: Report) -> bool:
    return any(row.ratio for row in report.rows)


def _has_floor(report: Report) -> bool:
    return any(row.floor for row in report.rows)


def lines(report: Report) -> Iterator[list[str]]:
    """A case and metric are named once, on the first of their lines."""
    several = len(report.metrics) > 1
    for case in report.cases:
        for column in report.metrics:
            rows = report.find(case.name, column.name)
            name = column.title if case.name == report.subject else case.name
            if several and case.name != report.subject:
                name = f"{case.name}: {column.title}"
            elif column.unit and not several:
                name = f"{case.name}, {column.unit}"
            for number, row in enumerate(rows):
                yield ["" if number else name, row.contestant, *_cells(report, column, row)]


def _cells(report: Report, column: Column, row: Row) -> Iterator[str]:
    if row.shown:
        yield from (row.shown, "", "")
    else:
        yield number(row.median, column)
        yield f"{number(row.low, column)} to {number(row.high, column)}"
        yield f"{number(row.least, column)} to {number(row.most, column)}"
    if _has_ratio(report):
        ratio = row.ratio
        yield f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else ""
    if _has_floor(report):
        yield f"{share(row.of_floor)} of {row.floor:.1f}" if row.floor and row.of_floor else ""
    if any(each.notes for each in report.rows):
        yield "; ".join(row.notes)


def share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 else f"{value:.2%}"


def number(value: float, column: Column) -> str:
    """Small numbers keep three digits that count."""
    digits = column.digits
    while 0 < abs(value) < 10 ** (1 - digits) and digits < 4:
        digits += 1
    return f"{value:.{digits}f}"


def facts(report: Report) -> Iterator[str]:
    """What must stand beside the figures for them to mean something."""
    if report.model:
        yield f"model: {report.model.title}, {report.model.parameters / 1e6:.1f} M parameters"
    for contestant in report.contestants:
        size = f", {contestant.bytes / 1e6:.1f} MB of weights" if contestant.bytes else ""
        bits = ""
        if contestant.bytes and report.model:
            bits = f" ({contestant.bytes * 8 / report.model.parameters:.2f} bits each)"
        yield f"{contestant.title}{size}{bits}"
    measured = {name: found for name in report.floors if (found := report.floor(name))}
    if measured:
        parts = (
            f"{name} {found.median:.1f} ({found.least:.1f} to {found.most:.1f})"
            for name, found in measured.items()
        )
        yield f"the machine's floor in the same rounds: {'; '.join(parts)}"
    if report.floor_note:
        yield report.floor_note
    load = report.machine.load
    idle = "" if load is None else f"; load before: {load}{', not idle' if load > BUSY else ''}"
    rounds = f"{report.rounds} interleaved rounds" if report.rounds > 1 else "one round"
    yield f"{rounds} on {report.machine}{idle}"
    yield from report.troubles


def entry(report: Report) -> str:
    """The markdown of one result, for bench/LOG.md."""
    model = f", {report.model.title}" if report.model else ""
    head = headings(report)
    body = "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines(report)
    )
    notes = "\n".join(f"- {fact}" for fact in facts(report))
    return (
        f"{HEADING}{report.when[:10]}: {report.subject}{model}\n\n"
        f"```\n{' '.join(report.command)}\n```\n\n"
        f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n{body}\n\n{notes}\n"
    )


def prepend(log: Path, text: str) -> None:
    """Puts an entry above the newest one, under the page's introduction."""
    old = log.read_text(encoding="utf-8")
    at = old.find(f"\n{HEADING}") + 1
    at = at or len(old)
    gap = "" if old[:at].endswith("\n\n") else "\n"
    log.write_text(f"{old[:at]}{gap}{text}\n{old[at:]}", encoding="utf-8")
