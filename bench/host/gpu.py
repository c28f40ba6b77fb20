"""A chip of hardware.toml as the GPU of the Metal path."""

from collections.abc import Iterator
from contextlib import contextmanager

from bessemer.bench.models.hardware import Chip
from bessemer.kernels.metal.device import Gpu, using
from bessemer.kernels.metal.library import built_on_gpu
from bessemer.kernels.simulator.clock import Speed
from bessemer.kernels.simulator.timing import TimedRun, timed

LARGE = ("max", "ultra")


def speed(chip: Chip) -> Speed:
    """Return a chip's speed; MLX fills command buffers less on the smaller ones."""
    full = 50 if chip.key.endswith(LARGE) else 40
    rates = chip.bandwidth * chip.reached * 1e9, chip.tflops * 1e12
    return Speed(*rates, chip.cores, launches=full, elements=full << 20)


@contextmanager
def modelled_gpu(chip: Chip, scale: float = 1.0) -> Iterator[TimedRun]:
    """Within the block the Metal path runs against a chip's GPU; kernels compute nothing."""
    built_on_gpu.cache_clear()  # of real ones
    try:
        with timed(TimedRun(speed(chip), scale)) as run, using(Gpu(True, chip.cores)):
            yield run
    finally:
        built_on_gpu.cache_clear()
