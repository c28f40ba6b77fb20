"""The command line behind `bessemer kernels`: list the operations, profile a kernel, time them all.

python -P -m bessemer.bench.kernels.cli profile linear --shape qwen3-1.7b --chip m4-max
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import mlx.core as mx
import typer
from rich.table import Table
from typer import Option

from bessemer.bench.command import (
    FAILED,
    MISTAKES,
    application,
    flags_of,
    keep,
    one_of,
    run,
    with_flags,
    writable,
)
from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.compare.plots import require_matplotlib
from bessemer.bench.compare.show import console
from bessemer.bench.kernels.export import LANGUAGES, MANIFEST, compile_texts, export
from bessemer.bench.kernels.profiling import profile
from bessemer.bench.kernels.show import as_dict, page, table
from bessemer.bench.kernels.workload import Demand, Dimensions, Workload
from bessemer.bench.kernels.workloads import MODULES, workloads
from bessemer.bench.models.hardware import Chip, chips
from bessemer.bench.models.shapes import published, shape
from bessemer.engine.command_line import install
from bessemer.kernels.catalog import CatalogEntry, catalog
from bessemer.kernels.metal.device import Gpu, device
from bessemer.kernels.simulator.options import SimulatorError

DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}

app = application("The operations and their kernels.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """A step of a model of some shape."""

    # fmt: off
    shape: Annotated[str, Option(help="As `bessemer bench shapes`.")] = "llama-3.2-1b"
    rows: Annotated[int, Option(help="Tokens of the step.")] = 1
    context: Annotated[int, Option(help="Tokens of each sequence.")] = 512
    bits: Annotated[Literal[2, 3, 4, 5, 6, 8], Option(help="Of a weight.")] = 4
    group: Annotated[Literal[32, 64, 128], Option(help="Weights that share a scale.")] = 64
    dtype: Annotated[Literal["float16", "bfloat16", "float32"], Option(
        help="Of activations.",
    )] = "float16"
    # fmt: on

    def demand(self, prompt: bool = False) -> Demand:
        if self.shape not in published():
            raise Unavailable(
                f"there is no shape named {self.shape}; there are {', '.join(published())}"
            )
        return Demand(
            Dimensions.of(shape(self.shape).config),
            self.rows,
            self.context,
            self.bits,
            self.group,
            DTYPES[self.dtype],
            prompt,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, `list` if none is named, and return its exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments) or ["list"]
    return run(app, "bessemer kernels", argv, "bessemer kernels", (*MISTAKES, SimulatorError))


@app.command("list")
def list_operations(
    as_json: Annotated[bool, Option("--json", help="As JSON.")] = False,
) -> None:
    """List the operations and what each backend uses."""
    entries = catalog()
    if as_json:
        print(json.dumps([each.as_dict() for each in entries], indent=2))
        return
    shown = Table("operation", "in C on a CPU", "Metal kernels", "here", "because")
    for each in entries:
        shown.add_row(*_cells(each))
    console().print(shown)


def _cells(entry: CatalogEntry) -> tuple[str, ...]:
    metal = ", ".join(entry.kernels) or "MLX's own"
    return entry.operation, entry.c or "MLX's own", metal, entry.here, entry.because


# fmt: off
@app.command("profile")
@with_flags(flags_of(StepOptions))
def profile_kernel(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(MODULES))],
    chip: Annotated[list[str] | None, Option(
        metavar="NAME", help="Of bench/models/hardware.toml; repeatable.",
    )] = None,
    as_json: Annotated[bool, Option("--json", help="As JSON.")] = False,
    html: Annotated[str | None, Option(
        metavar="FILE", help="Annotated source and a roofline plot.",
    )] = None,
    capture: Annotated[str | None, Option(
        metavar="FILE", help="A Metal trace instead, on a Mac.",
    )] = None,
    prompt: Annotated[bool, Option("--prompt", help="The rows are one prompt.")] = False,
    **step: Any,
) -> None:
    # fmt: on
    """Show what a kernel moves and computes, line by line, on any machine.

    NAME is an operation, or operation/use; all figures come from a CPU model of Metal.
    """
    if html:
        require_matplotlib()  # before the work, not after it
        writable("--html", html)
    chosen = _chips(chip or [])
    if capture and not isinstance(device(), Gpu):
        raise Unavailable("--capture records a trace of a Metal device, and there is none here")
    demand = StepOptions(**step).demand(prompt)
    uses = _uses(name, demand, step["shape"])
    if capture:
        return _capture(uses, capture)
    profiles = [profile(each, 1 if prompt else demand.rows) for each in uses]
    if as_json:
        print(json.dumps([as_dict(each, chosen) for each in profiles], indent=2))
    else:
        for each in profiles:
            console().print(table(each, chosen))
    if html:
        command = " ".join(["bessemer kernels", *ctx.obj])
        keep("--html", Path(html), page(profiles, chosen, command))
    return None


def _uses(name: str, demand: Demand, model: str) -> list[Workload]:
    """Return the operation's uses in the shape, or the one that is named after a slash."""
    operation, _, use = name.partition("/")
    every = list(workloads(operation, demand))
    chosen = [each for each in every if not use or each.name == use]
    if not chosen:
        known = ", ".join(each.name for each in every) or "none"
        raise Unavailable(
            f"a model of shape {model} has no such use of {operation} in this step; "
            f"its uses here: {known}"
        )
    return chosen


def _chips(names: Sequence[str]) -> list[Chip]:
    known: Mapping[str, Chip] = chips()
    for name in names:
        if name not in known:
            raise Unavailable(f"there is no chip named {name}; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def _capture(uses: Sequence[Workload], file: str) -> None:
    """Write a trace for Xcode of one run of each use, after a run that compiles."""
    mx.eval([each.call() for each in uses])
    try:
        mx.metal.start_capture(file)
    except RuntimeError as error:  # MLX says so where METAL_CAPTURE_ENABLED is not set
        raise Unavailable(f"{error}; set METAL_CAPTURE_ENABLED=1 and try again") from None
    mx.eval([each.call() for each in uses])
    mx.metal.stop_capture()


# fmt: off
@app.command("bench")
@with_flags(flags_of(StepOptions))
def time_kernels(
    operation: Annotated[list[str] | None, Option(
        parser=one_of(*MODULES), metavar="NAME", help="All, if none is named; repeatable.",
    )] = None,
    report: Annotated[str | None, Option(
        "--json", metavar="FILE", help="pytest-benchmark's own report.",
    )] = None,
    **step: Any,
) -> int:
    # fmt: on
    """Time the kernels on this machine's Metal device."""
    timing = import_module("bessemer.bench.kernels.timing") if _has_pytest() else None
    if timing is None:
        how = install("pytest", "pytest-benchmark")
        raise Unavailable(f"timing needs pytest-benchmark: {how}")
    if not isinstance(device(), Gpu):
        raise Unavailable(timing.NO_DEVICE)
    pytest = import_module("pytest")
    selection = timing.Selection(StepOptions(**step).demand(), tuple(operation or ()))
    flags = ["--benchmark-only", "--benchmark-group-by=group", "-p", "no:cacheprovider"]
    saved = [f"--benchmark-json={report}"] if report else []
    plugins = [timing.SelectionPlugin(selection)]
    return int(pytest.main([str(timing.__file__), "-q", *flags, *saved], plugins=plugins))


# fmt: off
@app.command("export")
def export_texts(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Made if it is not there.")],
    shapes: Annotated[list[str] | None, Option(
        "--shape", metavar="NAME", help="All published ones, if none is named; repeatable.",
    )] = None,
) -> None:
    # fmt: on
    """Write every text that our kernels are compiled from, for Apple's compiler, with a manifest.

    They are those of all forms that kernels have, and of models of published shapes.
    """
    for name in shapes or ():
        if name not in published():
            raise Unavailable(f"there is no shape named {name}; there are {', '.join(published())}")
    path = Path(folder).expanduser()
    writable("DIR", str(_folder(path) / MANIFEST))
    count = export(path, shapes or list(published()))
    print(f"{count} texts and their {MANIFEST} are in {path}")


# fmt: off
@app.command("compile")
def compile_export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="As `export` wrote it.")],
    language: Annotated[str, Option(
        parser=one_of(*LANGUAGES), metavar="N.N", help=f"Metal's: {', '.join(LANGUAGES)}.",
    )] = LANGUAGES[0],
) -> int:
    # fmt: on
    """Compile all exported texts by Apple's compiler; DIR/refused-N.N.json has what it refuses."""
    path = Path(folder).expanduser()
    if not (path / MANIFEST).is_file():
        raise Unavailable(f"{path} has no {MANIFEST}: bessemer kernels export writes one")
    if shutil.which("xcrun") is None:
        raise Unavailable("Apple's compiler is not here: there is no xcrun")
    refused = compile_texts(path, language)
    for each in refused:
        print(f"{each['file']}: {each['said'].strip()}", file=sys.stderr)
    print(f"{len(refused)} texts were refused by Metal {language}")
    return FAILED if refused else 0


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{path} cannot be a folder: {error.strerror}") from None
    return path


def _has_pytest() -> bool:
    return all(find_spec(name) for name in ("pytest", "pytest_benchmark"))


if __name__ == "__main__":
    sys.exit(main())
