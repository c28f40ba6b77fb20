"""The command line behind `bessemer bench`, in a process of its own: it may use mlx and be killed.

python -P -m bessemer.bench.compare.cli decode --shape llama-3.2-1b --against llama.cpp
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bessemer.bench.command import FAILED, application, flags_of, keep, with_flags, writable
from bessemer.bench.command import run as run_app
from bessemer.bench.compare import report as reports
from bessemer.bench.compare.contest import CaseFailed, Unavailable
from bessemer.bench.compare.floor import meter
from bessemer.bench.compare.machine import describe
from bessemer.bench.compare.metrics import Amounts, cases
from bessemer.bench.compare.options import (
    ABOUT,
    TAKEN,
    BenchOptions,
    Destinations,
    QualityOptions,
    flags,
)
from bessemer.bench.compare.page import page
from bessemer.bench.compare.participants import OURS, participants, prepare
from bessemer.bench.compare.plots import require_matplotlib
from bessemer.bench.compare.precision_report import precision_report
from bessemer.bench.compare.quality_report import quality_report
from bessemer.bench.compare.report import BenchReport
from bessemer.bench.compare.rounds import Tell, Terms, run
from bessemer.bench.compare.show import console, entry, prepend, table
from bessemer.bench.compare.summary import RunDescription, summarize
from bessemer.bench.host import report as host_report
from bessemer.bench.models.shapes import published, shape
from bessemer.engine.command_line import say
from bessemer.engine.remedies import unreadable

WITH_FLOOR = ("decode", "prefill", "batch")
LOG = Path(__file__).parents[1] / "LOG.md"

app = application("Measure Bessemer, alone or beside others.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; a mistake or a missing peer is one sentence."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    argv = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    return run_app(app, "bessemer bench", argv, prog_name="bessemer bench")


def add_measurement(benchmark: str) -> None:
    """Add the command that measures contestants in rounds."""

    @app.command(benchmark, help=ABOUT[benchmark])
    @with_flags(flags(benchmark))
    def call(ctx: typer.Context, **values: Any) -> int:
        options = BenchOptions(benchmark=benchmark, **values)
        return deliver(lambda line: measure(line, options), ctx, options)


for each in TAKEN:
    add_measurement(each)


@app.command(help=host_report.ABOUT)
@with_flags(flags_of(host_report.HostOptions))
def host(ctx: typer.Context, **values: Any) -> int:
    options = host_report.HostOptions(**values)
    return host_report.report(["bessemer", "bench", *ctx.obj], options)


@app.command(help=ABOUT["quality"])
@with_flags(flags_of(QualityOptions))
def quality(ctx: typer.Context, **values: Any) -> int:
    options = QualityOptions(**values)
    if not options.tokens:
        return deliver(lambda line: quality_report(line, options), ctx, options)
    with progress() as tell:
        return deliver(lambda line: precision_report(line, options, tell), ctx, options)


def measure(line: Sequence[str], options: BenchOptions) -> BenchReport:
    """Run all contestants; CaseFailed if none of them measured anything."""
    machine = describe()
    model = prepare(options)
    contestants = participants(options, model)
    amounts = Amounts(options.tokens, options.context, options.lengths, options.streams)
    planned = cases(options.benchmark, amounts)
    gauge = meter(options.threads) if options.benchmark in WITH_FLOOR else None
    terms = Terms(options.rounds, options.budget, options.seed, gauge.measure if gauge else None)
    with progress() as tell:
        results = run(contestants, planned, terms, tell)
    if not results.measures:
        raise CaseFailed(
            "; ".join(f"{label}: {text}" for (label, _), text in results.troubles.items())
        )
    note = gauge.note if gauge else ""
    description = RunDescription(
        options.benchmark, line, machine, options.rounds, model, planned, OURS, note
    )
    return summarize(description, results)


@contextmanager
def progress() -> Iterator[Tell]:
    """Show bars on stderr, if somebody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    screen = console(to_error=True)
    with Progress(
        *columns, TimeElapsedColumn(), console=screen, disable=not screen.is_terminal
    ) as bars:
        task = bars.add_task("", total=None)

        def tell(text: str, done: int, total: int) -> None:
            bars.update(task, description=text, completed=done, total=total)

        yield tell


def deliver(
    work: Callable[[Sequence[str]], BenchReport], ctx: typer.Context, to: Destinations
) -> int:
    """Do the work for the command line as it was typed; print, save, draw and log its report."""
    _prepare(to)
    report = work(["bessemer", "bench", *ctx.obj])
    content = reports.write(report)
    if to.json:
        sys.stdout.write(content.decode())
    else:
        console().print(table(report))
    if to.save or to.save_to:
        say(f"saved as {save(report, content, to.save_to)}\n")
    if to.html:
        keep("--html", writable("--html", to.html), page(report))
    if to.log:
        prepend(log_file(None), entry(report))
    return FAILED if report.troubles else 0


def _prepare(to: Destinations) -> None:
    """See that the report can go where it is to, before the work and not after it."""
    if to.html:
        require_matplotlib()
        writable("--html", to.html)
    if to.save or to.save_to:
        writable("--save", str(results_folder(to.save_to) / ".probe"))
    if to.log:
        writable("--log", str(log_file(None)))


def results_folder(name: str | None) -> Path:
    """Return the folder of this name, or that of the user's data, made if it is not there."""
    try:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        folder = Path(name).expanduser() if name else Path(base) / "bessemer" / "bench"
        folder.mkdir(parents=True, exist_ok=True)
    except RuntimeError:
        raise Unavailable("there is no home directory to save in; name a --save-to") from None
    except OSError as error:
        raise Unavailable(f"--save cannot make {error.filename}: {error.strerror}") from None
    return folder


def save(report: BenchReport, content: bytes, folder: str | None) -> Path:
    """Write a report among the user's data, named by time, benchmark and model."""
    target = results_folder(folder)
    model = f"-{report.model.name.replace('/', '-')}" if report.model else ""
    path = target / f"{report.when.replace(':', '')}-{report.benchmark}{model}.json"
    keep("--save", path, content)
    return path


def load(path: str) -> BenchReport:
    try:
        return reports.read(Path(path).read_bytes())
    except OSError as error:
        raise Unavailable(unreadable(path, error)) from None
    except ValueError as error:
        raise Unavailable(f"{path} is no saved result: {error}") from None


@app.command()
def log(
    files: Annotated[list[str], typer.Argument(metavar="FILE.json")],
    into: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Another log.", show_default="bench/LOG.md"),
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the entries instead.")] = False,
) -> None:
    """Write a saved result into bench/LOG.md."""
    entries = [entry(load(path)) for path in files]
    if show:
        print("\n".join(entries), end="")
        return
    target = log_file(into)
    for text in entries:
        prepend(target, text)


def log_file(name: str | None) -> Path:
    target = Path(name) if name else LOG
    if not target.is_file():
        raise Unavailable(f"{target} is not there; name a log with --into")
    return target


@app.command()
def html(
    file: Annotated[str, typer.Argument(metavar="FILE.json")],
    target: Annotated[str, typer.Argument(metavar="FILE.html")],
) -> None:
    """Draw a saved result."""
    path = writable("FILE.html", target)
    keep("FILE.html", path, page(load(file)))


@app.command()
def shapes() -> None:
    """List the shapes that --shape knows."""
    for name, row in published().items():
        known = shape(name)
        size = f"{known.parameters / 1e6:,.0f} M parameters, {known.published_layers} layers"
        print(f"{name:18} {size:38} {row['source']}")


if __name__ == "__main__":
    sys.exit(main())
