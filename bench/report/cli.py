"""The command line behind `bessemer doctor`: what is wrong with this machine; today, its GPU.

python -P -m bessemer.bench.report.cli --gpu-report FILE
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Option

from bessemer.bench.command import FAILED, application, names, run, writable
from bessemer.bench.compare.cli import progress
from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.compare.show import console
from bessemer.bench.report.finding import How
from bessemer.bench.report.report import GpuReport, make, written
from bessemer.bench.report.show import page, table
from bessemer.bench.report.steps import STEPS, Step
from bessemer.engine.command_line import INTERRUPTED
from bessemer.kernels.metal.device import Gpu, device
from bessemer.kernels.simulator.compiler import require
from bessemer.kernels.simulator.options import SimulatorError

app = application("Look for what is wrong with this machine.")
NO_GPU = "there is no Metal device here, so there is no GPU to report on; --simulated tries it all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 where all is well, 1 where something is not."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    return run(app, "bessemer doctor", argv, "bessemer doctor", (Unavailable, SimulatorError))


# fmt: off
@app.command()
def doctor(
    gpu_report: Annotated[str | None, Option(
        metavar="FILE", help="Try all that this GPU is to do; write FILE.json and FILE.html.",
    )] = None,
    minutes: Annotated[float, Option(
        min=0.01, metavar="N", help="For the report; what does not fit is left out.",
    )] = 15,
    only: Annotated[str, Option(
        metavar="A,B", help=f"Some of its steps: {', '.join(step.name for step in STEPS)}.",
    )] = "",
    simulated: Annotated[bool, Option(
        "--simulated", help="Try the report itself, in a CPU model of Metal.",
    )] = False,
) -> int:
    # fmt: on
    """Look for what is wrong with this machine, and write it down for those who can mend it."""
    if gpu_report is None:
        raise Unavailable("there is one thing to look at so far: --gpu-report FILE")
    report = GpuReport(How(simulated), minutes, _steps(names(only)))
    if simulated:
        require()
    elif not isinstance(device(), Gpu):
        raise Unavailable(NO_GPU)
    return write(report, _files(gpu_report))


def _steps(chosen: Sequence[str]) -> Sequence[Step]:
    known = {step.name: step for step in STEPS}
    for name in chosen:
        if name not in known:
            raise Unavailable(f"there is no step named {name}; there are {', '.join(known)}")
    return [step for step in STEPS if step.name in chosen] or STEPS


def _files(name: str) -> tuple[Path, Path]:
    """Return the two files of a report, which can be written. Raises Unavailable."""
    path = Path(name).expanduser()
    path = path.with_suffix("") if path.suffix in (".json", ".html") else path
    as_json, html = (path.with_name(f"{path.name}.{kind}") for kind in ("json", "html"))
    return writable("--gpu-report", str(as_json)), writable("--gpu-report", str(html))


def write(report: GpuReport, files: tuple[Path, Path]) -> int:
    """Make the report, and write what there is of it however it ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as `bessemer` passes Ctrl-C on

    def save() -> None:
        for path, text in zip(files, (report.as_json(), page(report)), strict=True):
            with written(path) as fresh:
                fresh.write_text(text, encoding="utf-8")

    try:
        with progress() as tell:
            make(report, tell, save)
    except KeyboardInterrupt:
        report.interrupted = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once more would lose what is being written
    save()
    console().print(table(report))
    print(f"{files[0]} and {files[1]} have it all")
    return INTERRUPTED if report.interrupted else FAILED if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
