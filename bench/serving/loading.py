"""How long a checkpoint takes to load from a warm file cache, and how much memory at its peak.

python -P -m bessemer.bench.serving.loading [--shape llama-3.2-1b] [--bits 4] [--group 64]
        [--rounds 5]

Each round is a process of its own. Time is from the imports on to weights as the kernels want them;
memory is what the process takes more than before, beside the size of the files.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import mlx.core as mx
import psutil
from msgspec import Struct, to_builtins
from rich.table import Table

from bessemer.bench.compare.machine import cpu_tier
from bessemer.bench.compare.show import console
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.bench.serving.processes import peak
from bessemer.engine.model import load

MOST_SECONDS, MOST_MEMORY = 3.0, 1.1


class Loaded(Struct, frozen=True):
    """Seconds, and bytes at the peak."""

    seconds: float
    peak: int


def measure(path: Path) -> Loaded:
    """Of this process, which has loaded nothing yet."""
    cpu_tier()
    mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
    process = psutil.Process()
    before, began = peak(process), time.perf_counter()
    model = load(path)
    seconds = time.perf_counter() - began
    assert model.weight_bytes
    return Loaded(seconds, peak(process) - before)


def rounds(path: Path, count: int) -> list[Loaded]:
    """The first of them, which warms the file cache, is not counted."""
    command = [sys.executable, "-P", "-m", "bessemer.bench.serving.loading", "--measure", str(path)]
    found = []
    for _ in range(count + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(Loaded(**json.loads(done.stdout)))
    return found[1:]


def main(arguments: Sequence[str] | None = None) -> int:
    """1 where it takes longer or more than it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="llama-3.2-1b")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(to_builtins(measure(options.measure))))
        return 0
    path = checkpoint(shape(options.shape), Storage(options.bits, options.group), seed=1)
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    found = rounds(path, options.rounds)
    seconds = median(each.seconds for each in found)
    most = median(each.peak for each in found)
    table = Table("checkpoint", "size", "load, s (median)", "peak / size")
    table.add_row(path.name, f"{size / 1e9:.2f} GB", f"{seconds:.2f}", f"{most / size:.3f}")
    table.title = f"CPU tier: {cpu_tier() or 'none'}"
    console().print(table)
    return int(seconds > MOST_SECONDS or most > MOST_MEMORY * size)


if __name__ == "__main__":
    raise SystemExit(main())
