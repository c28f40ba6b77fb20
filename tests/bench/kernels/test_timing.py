"""Tests of what only a Mac can time: the rows of timing.py, and what it says elsewhere."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.bench.kernels import timing
from bessemer.bench.kernels.timing import KEY, Selection, SelectionPlugin
from bessemer.bench.kernels.workload import Demand, Dimensions
from bessemer.bench.kernels.workloads import MODULES
from bessemer.bench.models.shapes import shape
from bessemer.kernels.metal.device import Gpu

STATES = ("gated_delta", "conv1d", "ssm_scan")  # of which only the last model below has uses
SMALL = Demand(Dimensions.of(shape("tiny").config), context=40)


class Benchmark:
    """Stands for pytest-benchmark's fixture: one round, no time."""

    def __init__(self) -> None:
        self.group = ""
        self.extra_info: dict[str, int] = {}
        self.rounds = 0

    def __call__(self, run: Any) -> None:
        self.rounds += 1
        run()


class Metafunc:
    """Stands for pytest's metafunc."""

    def __init__(self) -> None:
        self.config: Any = type("Config", (), {"stash": pytest.Stash()})()
        self.rows: list[Any] = []
        self.ids: list[str] = []

    def parametrize(self, names: Any, rows: list[Any], ids: list[str]) -> None:
        self.rows, self.ids = rows, ids


def rows(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> Metafunc:
    monkeypatch.setattr(timing, "device", lambda: Gpu() if gpu else None)
    metafunc = Metafunc()
    SelectionPlugin(Selection(SMALL, ("linear", "attention"))).pytest_configure(metafunc.config)
    assert metafunc.config.stash[KEY].operations == ("linear", "attention")
    argument: Any = metafunc
    timing.pytest_generate_tests(argument)
    return metafunc


def test_each_use_is_a_row_of_ours_and_one_of_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    metafunc = rows(monkeypatch, gpu=True)
    assert "linear, down: ours" in metafunc.ids and "linear, down: mlx" in metafunc.ids
    assert {each.operation for each, _ in metafunc.rows} == {"linear", "attention"}


def test_nothing_is_made_where_nothing_can_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows(monkeypatch, gpu=False).rows == []


def test_a_row_runs_and_says_the_least_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = Benchmark()
    workload = next(each for each, kind in rows(monkeypatch, gpu=True).rows if kind == "mlx")
    timing.test_operation(workload, "mlx", benchmark)
    assert benchmark.rounds == 1 and benchmark.extra_info == {"least bytes": workload.minimum}


@pytest.mark.parametrize("operation", MODULES)
def test_every_operation_has_uses(operation: str) -> None:
    """The uses are in one of three kinds of model, of a step or of a prompt."""
    tiny = SMALL.dimensions
    latent = replace(tiny, experts=4, per_token=2, expert_width=64, latent=64, latent_rope=32)
    latent = replace(latent, latent_value=32, shared_experts=1)
    uses = [
        workload
        for model in (tiny, latent, Dimensions.of(shape("qwen3-30b-a3b").config))
        for rows in (1, 4)
        for prompt in (False, True)
        if not (model.hidden > tiny.hidden and operation not in STATES)
        for workload in timing.workloads(
            operation, replace(SMALL, dimensions=model, rows=rows, prompt=prompt)
        )
    ]
    assert uses and all(each.operation == operation and each.minimum > 0 for each in uses)


def test_pytest_over_the_file_finds_nothing_to_time_here() -> None:
    path = Path(timing.__file__)
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    alone = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=path.parents[1], env=alone
    )
    assert done.returncode == 0 and "s" in done.stdout.split()[0], done.stdout
