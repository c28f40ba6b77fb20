"""The command line behind `bessemer kernels`: list the operations, profile a kernel, time them all.

python -P -m bessemer.bench.kernels.cli profile linear --shape qwen3-1.7b --chip m4-max
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import mlx.core as mx
from rich.table import Table

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.compare.options import Parser
from bessemer.bench.compare.plots import require_matplotlib
from bessemer.bench.compare.show import console
from bessemer.bench.kernels.profiling import Profile, profile
from bessemer.bench.kernels.show import as_dict, page, table
from bessemer.bench.kernels.workload import Demand, Dimensions
from bessemer.bench.kernels.workloads import MODULES, workloads
from bessemer.bench.models.hardware import Chip, chips
from bessemer.bench.models.shapes import published, shape
from bessemer.kernels.catalog import CatalogEntry, catalog
from bessemer.kernels.metal.device import Gpu, device
from bessemer.kernels.simulator.options import SimulatorError

USAGE = 2
DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a mistake is one sentence on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["list"]
    try:
        options = _parser().parse_args(given)
        return COMMANDS[options.command](options)
    except (Unavailable, SimulatorError) as error:
        print(f"bessemer kernels: {' '.join(str(error).split()).rstrip('.')}.", file=sys.stderr)
        return USAGE


def list_operations(options: argparse.Namespace) -> int:
    """What each backend uses, and on a GPU what its trials found."""
    entries = catalog()
    if options.json:
        print(json.dumps([each.as_dict() for each in entries], indent=2))
        return 0
    shown = Table("operation", "in C on a CPU", "Metal kernels", "here", "because")
    for each in entries:
        shown.add_row(*_cells(each))
    console().print(shown)
    return 0


def _cells(entry: CatalogEntry) -> tuple[str, ...]:
    metal = ", ".join(entry.kernels) or "MLX's own"
    return entry.operation, entry.c or "MLX's own", metal, entry.here, entry.because


def profile_kernel(options: argparse.Namespace) -> int:
    if options.html:
        require_matplotlib()  # before the work, not after it
    chosen = _chips(options.chip)
    if options.capture:
        return capture(options)
    found = _profiles(options)
    if options.json:
        print(json.dumps([as_dict(each, chosen) for each in found], indent=2))
    else:
        for each in found:
            console().print(table(each, chosen))
    if options.html:
        command = " ".join(["bessemer kernels", *sys.argv[1:]])
        Path(options.html).write_text(page(found, chosen, command), encoding="utf-8")
    return 0


def _profiles(options: argparse.Namespace) -> list[Profile]:
    """Of the operation's uses in the shape, or of the one that is named after a slash."""
    operation, _, use = options.name.partition("/")
    every = list(workloads(operation, _demand(options)))
    found = [each for each in every if not use or each.name == use]
    if not found:
        uses = ", ".join(each.name for each in every) or "none"
        raise Unavailable(
            f"a model of shape {options.shape} has no such use of {operation} in this step; "
            f"its uses here: {uses}"
        )
    return [profile(each, 1 if options.prompt else options.rows) for each in found]


def _chips(names: Sequence[str] | None) -> list[Chip]:
    known: Mapping[str, Chip] = chips()
    for name in names or ():
        if name not in known:
            raise Unavailable(f"there is no chip named {name}; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def _demand(options: argparse.Namespace) -> Demand:
    if options.shape not in published():
        raise Unavailable(
            f"there is no shape named {options.shape}; there are {', '.join(published())}"
        )
    return Demand(
        Dimensions.of(shape(options.shape).config),
        options.rows,
        options.context,
        options.bits,
        options.group,
        DTYPES[options.dtype],
        options.prompt,
    )


def capture(options: argparse.Namespace) -> int:
    """A trace for Xcode of one run of each use, after a run that compiles."""
    if not isinstance(device(), Gpu):
        raise Unavailable("--capture records a trace of a Metal device, and there is none here")
    operation, _, use = options.name.partition("/")
    calls = [
        each.call for each in workloads(operation, _demand(options)) if not use or each.name == use
    ]
    mx.eval([call() for call in calls])
    try:
        mx.metal.start_capture(options.capture)
    except RuntimeError as error:  # MLX says so where METAL_CAPTURE_ENABLED is not set
        raise Unavailable(f"{error}; set METAL_CAPTURE_ENABLED=1 and try again") from None
    mx.eval([call() for call in calls])
    mx.metal.stop_capture()
    return 0


def time_kernels(options: argparse.Namespace) -> int:
    rows = import_module("bessemer.bench.kernels.timing") if _has_pytest() else None
    if rows is None:
        raise Unavailable("timing needs pytest-benchmark: pip install pytest pytest-benchmark")
    if not isinstance(device(), Gpu):
        raise Unavailable(rows.NO_DEVICE)
    pytest = import_module("pytest")
    chosen = rows.Choice(rows.Chosen(_demand(options), tuple(options.operation or ())))
    flags = ["--benchmark-only", "--benchmark-group-by=group", "-p", "no:cacheprovider"]
    saved = [f"--benchmark-json={options.json}"] if options.json else []
    return int(pytest.main([str(rows.__file__), "-q", *flags, *saved], plugins=[chosen]))


def _has_pytest() -> bool:
    return all(find_spec(name) for name in ("pytest", "pytest_benchmark"))


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = MappingProxyType(
    {"list": list_operations, "profile": profile_kernel, "bench": time_kernels}
)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="bessemer kernels", description="The operations and their kernels.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    listing = commands.add_parser("list", help="operations, and what each backend uses")
    listing.add_argument("--json", action="store_true", help="as JSON")
    profiling = commands.add_parser(
        "profile",
        help="what a kernel moves and computes, line by line, on any machine",
        description="NAME is an operation, or operation/use; all figures come from a CPU model "
        "of Metal.",
    )
    profiling.add_argument("name", metavar="NAME", help=", ".join(MODULES))
    profiling.add_argument(
        "--chip", action="append", help="of bench/models/hardware.toml; repeatable"
    )
    profiling.add_argument("--json", action="store_true", help="as JSON")
    profiling.add_argument("--html", metavar="FILE", help="annotated source and a roofline plot")
    profiling.add_argument("--capture", metavar="FILE", help="a Metal trace instead, on a Mac")
    profiling.add_argument("--prompt", action="store_true", help="the rows are one prompt")
    timing = commands.add_parser("bench", help="times on this machine's Metal device")
    timing.add_argument("--operation", action="append", choices=tuple(MODULES))
    timing.add_argument("--json", metavar="FILE", help="pytest-benchmark's own report")
    timing.set_defaults(prompt=False)
    for each in (profiling, timing):
        each.add_argument("--shape", default="llama-3.2-1b", help="as `bessemer bench shapes`")
        each.add_argument("--rows", type=int, default=1, help="tokens of the step")
        each.add_argument("--context", type=int, default=512, help="tokens of each sequence")
        each.add_argument("--bits", type=int, default=4, choices=(2, 3, 4, 5, 6, 8))
        each.add_argument("--group", type=int, default=64, choices=(32, 64, 128))
        each.add_argument("--dtype", default="float16", choices=tuple(DTYPES))
    return parser


if __name__ == "__main__":
    sys.exit(main())
