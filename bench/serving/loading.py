"""The time a checkpoint takes to load from a warm file cache, and its memory at the peak.

Each round is a process of its own. Time is from the imports on to weights as the kernels want them;
memory is what the process takes more than before, beside the size of the files.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import mlx.core as mx
import psutil
from msgspec import Struct, to_builtins
from rich.table import Table
from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.bench.compare.machine import cpu_tier
from bessemer.bench.compare.show import console
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.bench.serving.processes import peak
from bessemer.engine.checkpoint.weight_files import weight_files
from bessemer.engine.model import load

MAX_SECONDS, MAX_MEMORY = 3.0, 1.1


class Loaded(Struct, frozen=True):
    """One loading: seconds, and bytes at the peak."""

    seconds: float
    peak: int


def measure(path: Path) -> Loaded:
    """Load in this process, which has loaded nothing yet."""
    cpu_tier()
    mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
    process = psutil.Process()
    before, began = peak(process), time.perf_counter()
    model = load(path)
    seconds = time.perf_counter() - began
    assert model.weight_bytes
    return Loaded(seconds, peak(process) - before)


def rounds(path: Path, count: int) -> list[Loaded]:
    """Load in new processes; the first, which warms the file cache, is not counted."""
    argv = [sys.executable, "-P", "-m", "bessemer.bench.serving.loading", "--measure", str(path)]
    loads = []
    for _ in range(count + 1):
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        loads.append(Loaded(**json.loads(done.stdout)))
    return loads[1:]


# fmt: off
@command(__doc__)
def main(
    name: Annotated[str, Option("--shape", help="Of random weights.")] = "llama-3.2-1b",
    bits: Annotated[int, Option(help="Of a weight.")] = 4,
    group: Annotated[int, Option(help="Weights that share a scale.")] = 64,
    count: Annotated[int, Option("--rounds", help="Loadings that count.")] = 5,
    here: Annotated[Path | None, Option("--measure", hidden=True)] = None,
) -> int:
    # fmt: on
    """Exit with 1 where it takes longer or more than it should."""
    if here:
        print(json.dumps(to_builtins(measure(here))))
        return 0
    path = checkpoint(shape(name), Storage(bits, group), seed=1)
    size = sum(file.stat().st_size for file in weight_files(path).files)
    loads = rounds(path, count)
    seconds = median(each.seconds for each in loads)
    memory = median(each.peak for each in loads)
    table = Table("checkpoint", "size", "load, s (median)", "peak / size")
    table.add_row(path.name, f"{size / 1e9:.2f} GB", f"{seconds:.2f}", f"{memory / size:.3f}")
    table.title = f"CPU tier: {cpu_tier() or 'none'}"
    console().print(table)
    return FAILED if seconds > MAX_SECONDS or memory > MAX_MEMORY * size else 0


if __name__ == "__main__":
    raise SystemExit(main())
