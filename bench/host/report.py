"""`bessemer bench host`: a loop of steps against a GPU of known speed, ours and mlx_lm's."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from bessemer.bench.command import NUMBERS, keep, writable
from bessemer.bench.compare.contest import CaseFailed, Unavailable
from bessemer.bench.compare.show import console
from bessemer.bench.host import ours
from bessemer.bench.host.gpu import modelled_gpu, speed
from bessemer.bench.host.measure import HostFigure
from bessemer.bench.host.show import DISCLAIMER, LEFT_OUT, SCALE, Terms, page, table
from bessemer.bench.models.hardware import Chip, chips
from bessemer.bench.models.shapes import ModelShape, shape
from bessemer.bench.models.synthetic import Storage, write
from bessemer.kernels.simulator import timing as kernels
from bessemer.kernels.simulator.clock import Speed

ABOUT = "The host's part of a step, against a modelled GPU: tokens a second, how busy, what for."
PEER = Path(__file__).with_name("peer_mlx_lm.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """A model's shape, a chip, and how fast its host is."""

    # fmt: off
    shape: Annotated[str, Option(help="As `bessemer bench shapes`.")] = "llama-3.2-1b"
    chip: Annotated[str, Option(metavar="NAME", help="Of bench/models/hardware.toml.")] = "m4-max"
    streams: Annotated[tuple[int, ...], Option(**NUMBERS, help="At once.")] = (1, 8, 32)
    host_scale: Annotated[float, Option(
        min=0.01, max=100, metavar="S",
        help="The time of a Mac's Python, if this machine's is 1: an assumption.",
    )] = 1.0
    context: Annotated[int, Option(min=1, metavar="N", help="Tokens of each prompt.")] = 512
    beside: Annotated[int, Option(
        min=0, metavar="N",
        help="Tokens of a prompt read while ours decode, for the longest gap between tokens.",
    )] = 0
    steps: Annotated[int, Option(
        min=1, metavar="N", help="Of a round, of which the quickest counts.",
    )] = 32
    bits: Annotated[int, Option(metavar="N", help="Of a weight.")] = 4
    group: Annotated[int, Option(metavar="N", help="Weights that share a scale.")] = 64
    dtype: Annotated[Literal["float16", "bfloat16"], Option(help="Of activations.")] = "float16"
    mlx_lm_python: Annotated[str, Option(
        metavar="PATH", help="That has mlx_lm, to run it under the same clock.",
    )] = ""
    json: Annotated[bool, Option("--json", help="Print JSON instead of tables.")] = False
    html: Annotated[str | None, Option(
        metavar="FILE", help="Write a page with flame graphs.",
    )] = None
    # fmt: on


def report(line: Sequence[str], options: HostOptions) -> int:
    """Measure, and print, draw and write what came of it."""
    if options.html:
        writable("--html", options.html)
    chip = _chip(options.chip)
    model, storage = shape(options.shape), Storage(options.bits, options.group, options.dtype)
    title = f"{model.name}, {storage}"
    notes = (LEFT_OUT, f"host-scale {options.host_scale:g}; {SCALE}", _parameters(speed(chip)))
    terms = Terms(" ".join(line), title, chip.name, options.host_scale, notes)
    figures = list(_figures(options, chip, model, storage))
    if options.json:
        everything = [figure.as_dict() for figure in figures]
        print(json.dumps({"about": DISCLAIMER, "notes": notes, "figures": everything}, indent=1))
    else:
        console().print(table(figures, terms))
    if options.html:
        keep("--html", Path(options.html), page(figures, terms))
    return 0


def _chip(name: str) -> Chip:
    if name not in chips():
        raise Unavailable(f"there is no chip named {name}; there are {', '.join(chips())}")
    return chips()[name]


def _parameters(speed: Speed) -> str:
    return (
        f"parameters: {speed.bandwidth / 1e9:.0f} GB/s, {speed.flops / 1e12:.1f} TFLOPS, "
        f"{speed.gap * 1e6:.1f} us between launches that wait and {speed.boundary * 1e6:.0f} us "
        f"between command buffers (mlx issue 4521, M3 Ultra), {speed.core / 1e9:.0f} GB/s for each "
        "threadgroup (64 bytes a clock: philipturner/metal-benchmarks)"
    )


def _figures(
    options: HostOptions, chip: Chip, model: ModelShape, storage: Storage
) -> Iterator[HostFigure]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        write(path, model, storage, 0, hollow=True)
        for streams in options.streams:
            amounts = (streams, options.context, options.steps, options.beside)
            with modelled_gpu(chip, options.host_scale) as run:
                yield ours.decode(run, path, model, *amounts)
            if options.mlx_lm_python:
                yield _theirs(options, chip, path, streams)


def _theirs(options: HostOptions, chip: Chip, path: Path, streams: int) -> HostFigure:
    """Run mlx_lm in an interpreter that has it, and shall find of ours but these two folders."""
    packages = path / "packages"
    for folder in (Path(kernels.__file__).parents[1], Path(__file__).parents[1]):
        link = packages / "bessemer" / folder.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(folder)
    order = {
        "packages": str(packages),
        "path": str(path),
        "streams": streams,
        "context": options.context,
        "steps": options.steps,
        "scale": options.host_scale,
        "speed": asdict(speed(chip)),
    }
    return HostFigure(**_answer(options.mlx_lm_python, order))


def _answer(python: str, order: dict[str, Any]) -> dict[str, Any]:
    """Return the child's answer. Raises Unavailable or CaseFailed, with its last line."""
    try:
        done = subprocess.run(
            [python, str(PEER)],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise Unavailable(f"--mlx-lm-python {python} does not run: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise CaseFailed(f"mlx_lm did not run under the clock: {lines[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
