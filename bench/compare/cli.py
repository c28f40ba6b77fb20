"""The command line behind `bessemer bench`, in a process of its own: it may use mlx and be killed.

python -P -m bessemer.bench.compare.cli decode --shape llama-3.2-1b --against llama.cpp
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bessemer.bench.compare import report as reports
from bessemer.bench.compare.contest import Contestant, Failed, Unavailable
from bessemer.bench.compare.floor import meter
from bessemer.bench.compare.machine import describe
from bessemer.bench.compare.metrics import Amounts, cases
from bessemer.bench.compare.options import parse
from bessemer.bench.compare.page import page
from bessemer.bench.compare.participants import OURS, prepare, roster
from bessemer.bench.compare.plots import require_matplotlib
from bessemer.bench.compare.quality_report import judged
from bessemer.bench.compare.report import Report
from bessemer.bench.compare.rounds import Tell, Terms, run
from bessemer.bench.compare.show import console, entry, prepend, table
from bessemer.bench.compare.summary import Setting, tally
from bessemer.bench.models.shapes import published, shape
from bessemer.http.config import UsageError

USAGE, FAILED, INTERRUPTED = 2, 1, 130
WITH_FLOOR = ("decode", "prefill", "batch")
LOG = Path(__file__).parents[1] / "LOG.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a mistake or a missing peer is one sentence on stderr."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        return command(given, parse(given))
    except (Unavailable, UsageError, Failed) as error:
        print(f"bessemer bench: {' '.join(str(error).split()).rstrip('.')}.", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("bessemer bench: interrupted.", file=sys.stderr)
        return INTERRUPTED


def command(given: Sequence[str], options: argparse.Namespace) -> int:
    if options.command == "shapes":
        return list_shapes()
    if options.command == "log":
        return log([Path(file) for file in options.files], options)
    if options.command == "html":
        Path(options.page).write_text(page(load(Path(options.file))), encoding="utf-8")
        return 0
    if options.html:
        require_matplotlib()  # before the work, not after it
    line = ["bessemer", "bench", *given]
    found = judged(line, options) if options.command == "quality" else measured(line, options)
    deliver(found, options)
    return FAILED if found.troubles else 0


def measured(line: Sequence[str], options: argparse.Namespace) -> Report:
    machine = describe()
    under = prepare(options)
    contestants: list[Contestant] = roster(options, under)
    wanted = Amounts(options.tokens, options.context, options.lengths, options.streams)
    planned = cases(options.command, wanted)
    gauge = meter(options.threads) if options.command in WITH_FLOOR else None
    terms = Terms(options.rounds, options.budget, options.seed, gauge.measure if gauge else None)
    with progress() as tell:
        outcome = run(contestants, planned, terms, tell)
    if not outcome.found:
        raise Failed("; ".join(f"{label}: {text}" for (label, _), text in outcome.troubles.items()))
    note = gauge.note if gauge else ""
    setting = Setting(options.command, line, machine, options.rounds, under, planned, OURS, note)
    return tally(setting, outcome)


@contextmanager
def progress() -> Iterator[Tell]:
    """Bars on stderr, if somebody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    screen = console(to_error=True)
    with Progress(
        *columns, TimeElapsedColumn(), console=screen, disable=not screen.is_terminal
    ) as bars:
        task = bars.add_task("", total=None)

        def tell(text: str, done: int, total: int) -> None:
            bars.update(task, description=text, completed=done, total=total)

        yield tell


def deliver(found: Report, options: argparse.Namespace) -> None:
    content = reports.write(found)
    if options.json:
        sys.stdout.write(content.decode())
    else:
        console().print(table(found))
    if options.save or options.save_to:
        path = save(found, content, options.save_to)
        print(f"saved as {path}", file=sys.stderr)
    if options.html:
        Path(options.html).write_text(page(found), encoding="utf-8")
    if options.log:
        prepend(the_log(None), entry(found))


def save(found: Report, content: bytes, folder: str | None) -> Path:
    """Among the user's data, named by time, subject and model."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    target = Path(folder).expanduser() if folder else Path(base) / "bessemer" / "bench"
    target.mkdir(parents=True, exist_ok=True)
    model = f"-{found.model.name.replace('/', '-')}" if found.model else ""
    path = target / f"{found.when.replace(':', '')}-{found.subject}{model}.json"
    path.write_bytes(content)
    return path


def load(path: Path) -> Report:
    try:
        return reports.read(path.read_bytes())
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Unavailable(f"{path} is no saved result: {error}") from None


def log(files: Sequence[Path], options: argparse.Namespace) -> int:
    entries = [entry(load(path)) for path in files]
    if options.print:
        print("\n".join(entries), end="")
        return 0
    target = the_log(options.into)
    for text in entries:
        prepend(target, text)
    return 0


def the_log(named: str | None) -> Path:
    target = Path(named) if named else LOG
    if not target.is_file():
        raise Unavailable(f"{target} is not there; name a log with --into")
    return target


def list_shapes() -> int:
    for name, known in published().items():
        found = shape(name)
        size = f"{found.parameters / 1e6:,.0f} M parameters, {found.whole} layers"
        print(f"{name:18} {size:38} {known['source']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
