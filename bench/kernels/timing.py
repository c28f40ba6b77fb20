"""Each operation's kernels and MLX's own operations on this Metal device: rows of pytest-benchmark.

`bessemer kernels bench` runs pytest over this file; so does `pytest bench/kernels/timing.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import pytest

from bessemer.bench.kernels.workload import Demand, Dimensions, Workload
from bessemer.bench.kernels.workloads import MODULES, workloads
from bessemer.bench.models.shapes import shape
from bessemer.kernels.metal.device import Gpu, Nowhere, device, using

NO_DEVICE = (
    "there is no Metal device here, so there are no times to offer; "
    "`bessemer kernels profile NAME` counts what a kernel does on any machine"
)
PROMPT = 512  # tokens


@dataclass(frozen=True, slots=True)
class Selection:
    """The timed workloads: a model's shape, a step, and operations (none: all)."""

    demand: Demand = field(
        default_factory=lambda: Demand(Dimensions.of(shape("llama-3.2-1b").config))
    )
    operations: tuple[str, ...] = ()

    def every(self) -> Iterator[Workload]:
        """Yield a decode step's uses, then a prompt's."""
        for demand in (self.demand, replace(self.demand, prompt=True, rows=PROMPT)):
            for name in self.operations or MODULES:
                yield from workloads(name, demand)


KEY = pytest.StashKey[Selection]()


class SelectionPlugin:
    """Hands the command line's selection to pytest."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[KEY] = self._selection


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a row of ours and one of MLX; no arrays where nothing can be timed."""
    rows: list[tuple[Workload, str]] = []
    if isinstance(device(), Gpu):
        selection = metafunc.config.stash.get(KEY, None) or Selection()
        rows = [(each, kind) for each in selection.every() for kind in ("ours", "mlx")]
    names = [f"{each.operation}, {each.name}: {kind}" for each, kind in rows]
    metafunc.parametrize(("workload", "kind"), rows, ids=names)


def test_operation(workload: Workload, kind: str, benchmark: Any) -> None:
    call = workload.call if kind == "ours" else workload.mlx

    def run() -> None:
        mx.eval(call())
        mx.synchronize()

    benchmark.group = f"{workload.operation}, {workload.name}"
    benchmark.extra_info["least bytes"] = workload.minimum
    with using(Gpu() if kind == "ours" else Nowhere()):
        run()
        benchmark(run)
