"""Steps about kernels: do they compile, agree with their references, repeat, and win."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from functools import partial
from itertools import cycle
from typing import Any

import mlx.core as mx
import numpy as np

from bessemer.bench.kernels.workload import Demand, Dimensions, Workload
from bessemer.bench.kernels.workloads import MODULES, workloads
from bessemer.bench.models.shapes import shape
from bessemer.bench.report.finding import How, Item, Outcome, State
from bessemer.kernels.catalog import metal_operations
from bessemer.kernels.instances import DTYPES, cases, listing
from bessemer.kernels.metal.device import (
    Device,
    Gpu,
    Nowhere,
    Simulator,
    SimulatorOptions,
    gpu,
    using,
)
from bessemer.kernels.registry import TOLERANCE, Arguments, Operation, difference, exact
from bessemer.kernels.simulator.options import MetalCompileError

REPEATS, AT_ONCE, PATIENCE = 1000, 20, 0.15  # runs; between two looks at the time; seconds
DRAWS = ("sample", "logprobs", "route")
RUNS = 15  # timings of each, in turns
NOT_COMPILED = re.compile(r"unable to (?:build|load)|program_source|does not compile|compil", re.I)
BITS = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}
AnyOperation = Operation[..., Any]


def devices(how: How) -> Sequence[Device]:
    """Return where kernels run; the simulator's simdgroups in both orders, which shows races."""
    if not how.simulated:
        return (replace(gpu() or Gpu(), trusted=True),)
    orders = (SimulatorOptions(), SimulatorOptions(order="reverse"))
    return tuple(Simulator(options) for options in orders)


def verify(part: str, how: How) -> Iterator[Item]:
    """Try each case of an operation once."""
    return _each(part, partial(_verified, device=devices(how)[0]))


def repeat(part: str, how: How) -> Iterator[Item]:
    """Try each case many times."""
    count = 4 if how.simulated else REPEATS
    return _each(part, partial(_repeated, where=devices(how), count=count))


def _each(part: str, work: Callable[[AnyOperation, Arguments], Outcome]) -> Iterator[Item]:
    operation = metal_operations()[part]
    for dtype in DTYPES:
        mx.random.seed(1)
        for number, arguments in enumerate(cases(operation, dtype), 1):
            name = str(dtype).removeprefix("mlx.core.")
            yield f"{name}, case {number}", partial(work, operation, arguments)


def _verified(operation: AnyOperation, arguments: Arguments, device: Device) -> Outcome:
    out = _run(operation, arguments, device)
    if isinstance(out, Outcome):
        return out
    worst = 0.0
    for number, (x, oracle) in enumerate(zip(out, exact(operation, arguments), strict=True)):
        off, most = difference(x, oracle), TOLERANCE.get(x.dtype, 0.0)
        worst = max(worst, off)
        if off > most:
            said = f"result {number} is off by {off:.2g} of the largest value, over {most:g}"
            first = first_difference(x, oracle, most)
            return Outcome("wrong", said, about(operation, arguments) | {"first": first})
    return Outcome(details={"off": worst})


def _run(
    operation: AnyOperation, arguments: Arguments, device: Device
) -> Sequence[mx.array] | Outcome:
    """Return the results, or what was said instead."""
    metal = operation.metal
    assert metal is not None
    try:
        with using(device):
            out = metal.results(metal.form(*arguments))
            mx.eval(out)
    except (RuntimeError, ValueError) as error:
        is_compilers = isinstance(error, MetalCompileError) or NOT_COMPILED.search(str(error))
        state: State = "compile error" if is_compilers else "error"
        return Outcome(state, str(error), about(operation, arguments))
    return out


def _repeated(
    operation: AnyOperation, arguments: Arguments, where: Sequence[Device], count: int
) -> Outcome:
    first = _run(operation, arguments, where[0])
    if isinstance(first, Outcome):
        return Outcome("left out", f"it does not run: {first.text.splitlines()[0]}")
    began, done, places = time.monotonic(), 1, cycle((*where[1:], where[0]))
    while done < count and (done == 1 or time.monotonic() - began < PATIENCE):
        for _ in range(min(AT_ONCE, count - done)):
            again = _run(operation, arguments, next(places))
            done += 1
            if isinstance(again, Outcome):
                return Outcome("error", f"run {done}: {again.text}", again.details)
            for number, (x, same) in enumerate(zip(again, first, strict=True)):
                if not mx.array_equal(_bits(x), _bits(same)).item():
                    said = f"result {number} of run {done} has other bits than the first"
                    differing = first_difference(x, same, 0.0)
                    return Outcome("race", said, about(operation, arguments) | {"first": differing})
    return Outcome(details={"runs": done})


def _bits(x: mx.array) -> mx.array:
    return x if x.dtype == mx.bool_ else x.view(BITS[x.dtype.size])


def first_difference(x: mx.array, oracle: mx.array, tolerance: float) -> Mapping[str, Any]:
    """Return where the first element stands that differs, both values, and how many do."""
    ours, exact_ones = (np.array(each.astype(mx.float32)) for each in (x, oracle))
    if ours.shape != exact_ones.shape:
        return {"shape": list(ours.shape), "reference shape": list(exact_ones.shape)}
    finite = np.isfinite(exact_ones)
    most = tolerance * float(np.abs(exact_ones[finite]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        same = (np.abs(ours - exact_ones) <= most) | (ours == exact_ones)
    same |= np.isnan(ours) & np.isnan(exact_ones)
    where = np.argwhere(~same)
    place = tuple(where[0]) if len(where) else (0,) * ours.ndim
    return {
        "shape": list(ours.shape),
        "index": [int(each) for each in place],
        "ours": str(ours[place]),
        "reference": str(exact_ones[place]),
        "differ": f"{len(where)} of {ours.size}",
    }


def about(operation: AnyOperation, arguments: Arguments) -> dict[str, Any]:
    """Return what it takes to repeat a case elsewhere: arguments and the kernels' texts."""
    metal = operation.metal
    assert metal is not None
    with listing() as launched:
        metal.form(*arguments)
    kernels = [asdict(each) for each in sorted(launched, key=lambda each: each.function)]
    described = [shown(each) for each in arguments]
    return {"operation": operation.name, "arguments": described, "kernels": kernels}


def shown(value: Any) -> str:
    """Describe an argument: arrays by type and shape, structures by what they hold."""
    if isinstance(value, mx.array | np.ndarray):
        return f"{str(value.dtype).removeprefix('mlx.core.')}{list(value.shape)}"
    if is_dataclass(value) and not isinstance(value, type):
        held = ((each.name, getattr(value, each.name)) for each in fields(value) if each.repr)
        inside = ", ".join(f"{name}={shown(each)}" for name, each in held if each is not None)
        return f"{type(value).__name__}({inside})"
    if isinstance(value, list | tuple) and len(value) <= 16:
        return f"[{', '.join(map(shown, value))}]"
    return str(value) if len(str(value)) <= 80 else f"{str(value)[:80]}..."


def trials(part: str, how: How) -> Iterator[Item]:
    """Try what a model asks for in steps of 1 and 4 rows, and in a prompt of 512."""
    dimensions, context = Dimensions.of(shape(part).config), 64 if how.simulated else 2048
    rows = ((1, False), (4, False), (24 if how.simulated else 512, True))
    device = devices(how)[0]
    for count, prompt in rows:
        demand = Demand(dimensions, count, context, 4, 64, mx.bfloat16, prompt)
        for name in MODULES:
            for workload in workloads(name, demand):
                item = f"{workload.operation}, {workload.name}, rows {count}"
                yield item, partial(_tried, workload, device, 0 if how.simulated else RUNS)


def _tried(workload: Workload, device: Device, runs: int) -> Outcome:
    """Compare with MLX's operations in the same types, and time both in turns."""
    ways = ((device, workload.call), (Nowhere(), workload.mlx))
    try:
        outs = [_called(*way) for way in ways]
    except (RuntimeError, ValueError) as error:
        return Outcome("compile error" if NOT_COMPILED.search(str(error)) else "error", str(error))
    for x, theirs in zip(*outs, strict=False):  # ours may return pages too
        off, most = difference(x, theirs), 4 * TOLERANCE.get(x.dtype, 0.0)
        if _is_comparable(workload) and off > most:
            first = first_difference(x, theirs, most)
            said = f"it is off by {off:.2g} of MLX's largest value, over {most:g}"
            return Outcome("wrong", said, {"first": first})
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for durations, way in zip(times, ways, strict=True):
            began = time.perf_counter()
            _called(*way)
            durations.append(time.perf_counter() - began)
    if not runs:
        return Outcome()
    ours, mlx = (sorted(each)[runs // 2] for each in times)
    rate = workload.minimum / ours / 1e9
    said = f"{ours * 1e6:.0f} us, MLX {mlx * 1e6:.0f} us ({mlx / ours:.2f}), {rate:.0f} GB/s"
    figures = {"microseconds": ours * 1e6, "mlx": mlx * 1e6, "least bytes": workload.minimum}
    return Outcome("figure", said, figures)


def _is_comparable(workload: Workload) -> bool:
    """Return whether both compute the same: of equal ones any may come first, and tails are new."""
    return workload.operation not in DRAWS and not workload.name.endswith("tails")


def _called(device: Device | Nowhere, call: Callable[[], Sequence[mx.array]]) -> list[mx.array]:
    with using(device):
        out = list(call())
        mx.eval(out)
        mx.synchronize()
    return out
