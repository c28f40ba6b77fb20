"""Tests of kernels/registry.py, with kernels planted to be broken, wrong or slow."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from bessemer.kernels import registry as module
from bessemer.kernels.cpu.library import ARRAY, INT, VALUES, Function
from bessemer.kernels.metal.device import Gpu, Nowhere, Simulator, device, using
from bessemer.kernels.metal.library import KernelFunction
from bessemer.kernels.metal.source import sources
from bessemer.kernels.registry import InMetal, Operation, Registry, in_c, in_float32
from bessemer.kernels.verdicts import Verdict, VerdictFile

from .tiers import NATIVE, use

DOUBLE = """#include <metal_stdlib>
using namespace metal;

template <typename T>
[[kernel]] void double_it(
    const device T* x [[buffer(0)]],
    device T* y [[buffer(1)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  uint i = thread_position_in_grid.x;
  y[i] = FORMULA;
}
"""
GOOD, WRONG, BROKEN = "T(2) * x[i]", "T(2) * x[i] + T(i == 9)", "T(2) * x[i"


class Clock:
    """Each reading is `steps` later than the last, in turns."""

    def __init__(self, *steps: float) -> None:
        self._steps, self._time, self._reads = steps, 0.0, 0

    def __call__(self) -> float:
        if self._reads % 2:
            self._time += self._steps[self._reads // 2 % len(self._steps)]
        self._reads += 1
        return self._time


def operation(folder: Path, formula: str, edges: tuple[int, ...] = ()) -> Operation:
    path = folder / f"{abs(hash(formula))}.metal"
    name = "double_it" if formula == GOOD else "double_otherwise"
    path.write_text(DOUBLE.replace("FORMULA", formula).replace("double_it", name))
    kernel = KernelFunction(sources(path)[name])

    def custom(x: mx.array) -> mx.array:
        (y,) = kernel([x], [(x.shape, x.dtype)], (x.size, 1, 1), (32, 1, 1), T=x.dtype)
        return y

    return Operation(
        "double",
        mlx=lambda x: x + x,
        reference=lambda x: 2 * x.astype(mx.float32),
        metal=InMetal(
            (path.name,),
            custom,
            key=lambda x: (x.size, str(x.dtype)),
            edges=lambda dtype: ((mx.arange(size).astype(dtype),) for size in edges),
        ),
    )


@pytest.fixture(autouse=True)
def simulator() -> Iterator[None]:
    with using(Simulator()):
        yield


def registry_of(file: Path | None, *steps: float) -> tuple[Registry, list[str]]:
    warnings: list[str] = []
    return Registry(VerdictFile(file), Clock(*steps), warnings.append), warnings


X = (mx.arange(16).astype(mx.float32),)


def test_the_faster_of_two_that_agree_is_used(tmp_path: Path) -> None:
    tried, warnings = registry_of(None, 1e-6, 2e-6)
    verdict = tried.verdict(operation(tmp_path, GOOD), X)
    assert verdict.custom and not verdict.reason
    assert (verdict.custom_time, verdict.mlx_time) == pytest.approx((1.0, 2.0))
    assert warnings == []


def test_a_slower_kernel_is_left_out_in_silence(tmp_path: Path) -> None:
    tried, warnings = registry_of(None, 3e-6, 2e-6)
    verdict = tried.verdict(operation(tmp_path, GOOD), X)
    assert not verdict.custom and verdict.custom_time > verdict.mlx_time
    assert warnings == []


def test_a_kernel_that_does_not_compile_is_left_out_with_one_warning(tmp_path: Path) -> None:
    tried, warnings = registry_of(None, 1e-6)
    broken = operation(tmp_path, BROKEN)
    for size in (16, 17):
        assert not tried.verdict(broken, (mx.zeros((size,)),)).custom
    (warning,) = warnings
    assert warning.startswith("the Metal kernel double is not used: it does not run (")


def test_a_wrong_kernel_is_left_out_with_one_warning(tmp_path: Path) -> None:
    tried, warnings = registry_of(None, 1e-6)
    assert not tried.verdict(operation(tmp_path, WRONG), X).custom
    assert warnings == [
        "the Metal kernel double is not used: it is off by 0.033 of the largest value "
        "(case 16 mlx.core.float32)"
    ]


def test_an_edge_is_tried_before_what_is_asked(tmp_path: Path) -> None:
    """Nine elements would do, a tenth is wrong: only the edge of 10 shows it."""
    for edges, used in (((7, 8), True), ((7, 8, 10), False)):
        tried, _ = registry_of(None, 1e-6)
        op = operation(tmp_path, WRONG, edges)
        assert tried.verdict(op, (mx.arange(9).astype(mx.float32),)).custom is used


@pytest.mark.parametrize("formula", [WRONG, BROKEN])
def test_a_verdict_does_not_hang_on_another_kernels_edge(tmp_path: Path, formula: str) -> None:
    """What more elements need does not keep fewer ones from the kernel that is theirs."""
    few, many = operation(tmp_path, GOOD, (7, 10)), operation(tmp_path, formula)
    assert few.metal is not None and many.metal is not None
    forms = (few.metal.form, many.metal.form)

    def either(x: mx.array) -> mx.array:
        return forms[x.size >= 10](x)

    both = replace(few, metal=replace(few.metal, form=either))
    assert both.metal is not None
    for size, used in ((9, True), (11, False)):
        tried, _ = registry_of(None, 1e-6)
        x = (mx.arange(size).astype(mx.float32),)
        assert tried.verdict(both, x).custom is used


def test_the_reference_is_computed_by_mlx_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an M5 a GPU's float32 products are TF32's; and what verifies a kernel runs none."""
    streams: list[object] = []
    seen: dict[str, tuple[object, bool]] = {}
    stream = mx.stream

    @contextmanager
    def noted(where: Any) -> Iterator[None]:
        streams.append(where)
        with stream(where):
            yield
        streams.pop()

    def note(name: str, form: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
        def run(x: mx.array) -> mx.array:
            seen[name] = (streams[-1] if streams else None, device() is None)
            return form(x)

        return run

    monkeypatch.setattr(mx, "stream", noted)
    op = operation(tmp_path, GOOD)
    assert op.metal is not None
    watched = replace(
        op,
        mlx=note("mlx", op.mlx),
        reference=note("reference", op.reference),
        metal=replace(op.metal, form=note("metal", op.metal.form)),
    )
    tried, _ = registry_of(None, 1e-6)
    assert tried.verdict(watched, X).custom
    assert seen.pop("reference") == (mx.Device(mx.DeviceType.cpu), True)
    assert seen == {"mlx": (None, False), "metal": (None, False)}


def test_nan_where_there_should_be_none_is_wrong(tmp_path: Path) -> None:
    tried, _ = registry_of(None, 1e-6)
    assert not tried.verdict(operation(tmp_path, "x[i] / T(0) - x[i] / T(0)"), X).custom


def test_infinities_have_to_agree(tmp_path: Path) -> None:
    infinite = (mx.array([float("inf"), -float("inf"), 1.0, 2.0, 3, 4, 5, 6]),)
    for formula, used in ((GOOD, True), ("-T(2) * x[i]", False)):
        tried, _ = registry_of(None, 1e-6)
        assert tried.verdict(operation(tmp_path, formula), infinite).custom is used


def test_verdicts_are_remembered(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    first, _ = registry_of(file, 1e-6, 2e-6)
    verdict = first.verdict(operation(tmp_path, GOOD), X)
    again, warnings = registry_of(file, 9.0)
    assert again.verdict(operation(tmp_path, BROKEN), X) == verdict  # nothing is tried anew
    assert warnings == [] and again.verdicts == first.verdicts
    assert again.verdict(operation(tmp_path, BROKEN), (mx.zeros((5,)),)).custom is False


def test_a_verdict_of_another_process_is_not_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    tried, _ = registry_of(file, 1e-6)
    other = Registry(VerdictFile(file), warn=pytest.fail)
    assert tried.verdict(operation(tmp_path, GOOD), X).custom
    assert other.verdict(operation(tmp_path, BROKEN), X).custom


def test_while_another_process_tries_mlx_does_it(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    tried, op = Registry(VerdictFile(file, patience=0), warn=pytest.fail), operation(tmp_path, GOOD)
    with VerdictFile(file).trial("other"):
        assert not tried.verdict(op, X).custom
        assert tried.verdicts == {}
    assert tried.verdict(op, X).reason == "" and len(tried.verdicts) == 1


DEADLY = """
import os, signal, sys
from pathlib import Path
import mlx.core as mx
from bessemer.kernels.metal.device import Simulator, using
from bessemer.kernels.registry import InMetal, Operation, Registry
from bessemer.kernels.verdicts import VerdictFile

def deadly(x):
    if sys.argv[2] != "quiet":
        os.kill(os.getpid(), int(sys.argv[2]))
    return x + x

def outer(x):
    return tried.verdict(inner, (x,)) and x + x

def operation(name, custom):
    key = lambda x: (x.size,)
    return Operation(name, lambda x: x + x, lambda x: 2 * x, metal=InMetal((), custom, key))

inner, fine = operation("inner", deadly), operation("fine", lambda x: x + x)
tried = Registry(VerdictFile(Path(sys.argv[1])))
with using(Simulator()):
    print(tried.verdict(fine, (mx.ones(9),)).reason)
    print(tried.verdict(operation("outer", outer), (mx.ones(9),)).reason)
print(tried.verdict(inner, (mx.ones(9),)).custom)
"""


def run_trials(file: Path, way: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", DEADLY, str(file), way]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("signal", [signal.SIGKILL, signal.SIGABRT])
def test_a_trial_that_ends_its_process_has_failed(tmp_path: Path, signal: int) -> None:
    """The kernel that was at work is to blame, not the one that called it, nor one before it."""
    file = tmp_path / "verdicts.json"
    assert run_trials(file, str(int(signal))).returncode == -signal
    assert set(json.loads(file.read_text())) == {"fine 9"}
    for _ in range(2):  # who finds it, and who reads of it
        done = run_trials(file, str(int(signal)))
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["False"]  # all others agree with their references
        found = json.loads(file.read_text())
        assert set(found) == {"fine 9", "inner 9", "outer 9"} and not found["outer 9"]["reason"]
    again = run_trials(file, "quiet")
    assert "False" in again.stdout and again.stderr == ""


def test_who_finds_that_a_trial_ended_its_process_says_so_once(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    run_trials(file, str(int(signal.SIGKILL)))
    said = [run_trials(file, str(int(signal.SIGKILL))).stderr for _ in range(2)]
    (line,) = said[0].splitlines()
    assert re.fullmatch(
        r"warning: the Metal kernel inner is not used: its trial of \S+ \S+ ended process \d+; "
        rf"it is tried again once {file} is removed",
        line,
    )
    assert said[1] == ""


def test_the_simulator_runs_the_kernel_whatever_it_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "registry", lambda: pytest.fail("nothing is tried here"))
    assert mx.array_equal(operation(tmp_path, GOOD)(*X), 2 * X[0])


def test_on_a_gpu_the_verdict_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Registry(VerdictFile(None))
    monkeypatch.setattr(module, "registry", lambda: tried)
    op = operation(tmp_path, GOOD)
    assert op.metal is not None
    name = " ".join(map(str, ("double", *op.metal.key(*X))))
    watched = Operation(
        op.name,
        lambda _: "composed",
        op.reference,
        metal=InMetal(op.metal.files, lambda _: "custom", op.metal.key),
    )
    for used in (True, False):
        tried._verdicts[name] = Verdict(used, "")
        tried._known.clear()
        with using(Gpu()):
            assert watched(*X) == ("custom" if used else "composed")
            assert watched.is_custom(*X) == used
    with using(Gpu(trusted=True)):
        assert watched(*X) == "custom"


@in_c("op_sigmoid_gate", VALUES, VALUES, INT, INT, ARRAY)
def _in_c(native: Function, x: mx.array) -> str:
    assert native is not None
    return "c"


def forms(**metal: Any) -> Operation[..., str]:
    """Forms that say which of them runs."""
    return Operation(
        "named",
        lambda x: "mlx",
        lambda x: "reference",
        _in_c,
        InMetal((), lambda x: "metal", lambda x: (x.size,), **metal),
    )


@pytest.mark.parametrize("tier", NATIVE)
def test_a_cpu_runs_c_where_the_form_takes_the_arguments(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tier)
    with using(Nowhere()):
        assert forms()(mx.ones((2,))) == "c"
        assert [forms()(x) for x in (mx.ones((0,)), mx.ones((2,), mx.float16))] == ["mlx", "mlx"]
        use(monkeypatch, None)
        assert forms()(mx.ones((2,))) == "mlx"


def test_metal_runs_what_its_form_takes() -> None:
    x = mx.ones((2,))
    assert forms()(x) == forms(takes=lambda x: x.size == 2)(x) == "metal"
    assert forms(takes=lambda x: x.size == 3)(x) == "mlx"
    assert forms().in_metal and forms().is_custom(x)
    assert not forms(takes=lambda x: x.size == 3).is_custom(x)
    with using(Nowhere()):
        assert not forms().in_metal and not forms().is_custom(x)


def test_what_is_decided_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "registry", lambda: pytest.fail("nothing is tried here"))
    with using(Gpu()):
        assert forms(decided=lambda x: True)(mx.ones((2,))) == "metal"


def test_named_arguments_have_the_verdict_of_those_by_position(tmp_path: Path) -> None:
    tried, _ = registry_of(None, 1e-6, 2e-6)
    op = operation(tmp_path, GOOD)
    assert tried.verdict(op, (), {"x": X[0]}) is tried.verdict(op, X)


def test_an_oracle_takes_floats_wide_and_the_rest_as_it_is() -> None:
    def kinds(*arrays: mx.array) -> list[str]:
        return [str(x.dtype) for x in arrays]

    assert in_float32(kinds)(mx.ones((1,), mx.bfloat16), mx.ones((1,), mx.int32)) == [
        "mlx.core.float32",
        "mlx.core.int32",
    ]


def test_the_registry_is_of_chip_mlx_and_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has the compiler that made a kernel's machine code."""
    paths = []
    monkeypatch.setattr(mx, "device_info", lambda: {"device_name": "Apple M1"})
    for mlx, system in (("0.32", "15.1"), ("0.33", "15.1"), ("0.33", "15.2")):
        monkeypatch.setattr(module, "MLX", mlx)
        monkeypatch.setattr(module.platform, "mac_ver", lambda system=system: (system, (), ""))
        paths.append(module.registry.__wrapped__().file.path)
    assert all(path.name.startswith("kernels-Apple-M1-0.3") for path in paths)
    assert len(set(paths)) == 3
