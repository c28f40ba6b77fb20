"""Which form of an operation runs where; on a GPU verified, then timed, and remembered.

A custom kernel is used where it compiles, agrees with the reference, and is at least as quick as
MLX's own operations. Verdicts are kept in a file for this chip, its versions and kernel text.
"""

import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from types import MappingProxyType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import mlx.core as mx

from .cpu.library import Function, Library, library, recording
from .metal.device import Device, Nowhere, Simulator, device, gpu, used, using
from .metal.library import launching
from .verdicts import Verdict, VerdictFile, verdict_file

RUNS = 15  # timings of each, taken in turns; their median counts
MLX = str(mx.__version__)  # type: ignore[attr-defined]
Key = tuple[int | str | bool | mx.Dtype, ...]
Arguments = tuple[Any, ...]
Predicate = Callable[..., Any]  # of an operation's arguments
MEANWHILE = Verdict(False, "another process is trying kernels")
NO_KEYWORDS: Mapping[str, Any] = MappingProxyType({})
P = ParamSpec("P")
R = TypeVar("R")

# The largest difference from the reference, against its largest value: some roundings of the type.
TOLERANCE = {mx.float32: 1e-4, mx.float16: 4e-3, mx.bfloat16: 3e-2}


@dataclass(frozen=True, slots=True, eq=False)
class InC(Generic[P, R]):
    """An operation's C form, which gets the function `name` of the library in use, then arguments.

    It `takes` some arguments: by default those whose first one is float32 and not empty.
    """

    name: str
    types: tuple[type, ...]
    takes: Predicate | None
    form: Callable[Concatenate[Function, P], R]


def in_c(
    name: str, *types: type, takes: Predicate | None = None
) -> Callable[[Callable[Concatenate[Function, P], R]], InC[P, R]]:
    """Make a C form of what calls the function of that name, with arguments of these types."""
    return lambda form: InC(name, types, takes, form)


def in_numpy(takes: Predicate) -> Callable[[Callable[P, R]], InC[P, R]]:
    """Make a form of NumPy's operations, for where the larger operations run in C."""

    def wrapped(form: Callable[P, R]) -> InC[P, R]:
        def call(_native: Function, /, *arguments: P.args, **keywords: P.kwargs) -> R:
            return form(*arguments, **keywords)

        return InC("", (), takes, call)

    return wrapped


@dataclass(frozen=True, slots=True, eq=False)
class InMetal(Generic[P, R]):
    """An operation's Metal form, the files of its kernels, and how it is verified.

    It `takes` some arguments, all by default. `key` tells arguments apart that may deserve another
    verdict; `edges` gives arguments that kernels get wrong most easily; a trial compares with the
    `oracle`, by default the reference; `results` takes from a result the arrays that are defined;
    `decided` says for which arguments the kernel has been chosen before.
    """

    files: tuple[str, ...]
    form: Callable[P, R]
    key: Callable[..., Key]
    edges: Callable[[mx.Dtype], Iterable[Arguments]] = lambda _: ()
    takes: Predicate | None = None
    oracle: Callable[P, R] | None = None
    results: Callable[[Any], Sequence[mx.array]] = lambda result: arrays(result)
    decided: Predicate | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Operation(Generic[P, R]):
    """An operation's forms, all with one signature; a call runs the one for the device in use.

    `mlx` is made of MLX's own operations and takes what no other form does; `reference` says what
    the result must be.
    """

    name: str
    mlx: Callable[P, R]
    reference: Callable[P, R]
    c: InC[P, R] | None = None
    metal: InMetal[P, R] | None = None

    def __call__(self, *arguments: P.args, **keywords: P.kwargs) -> R:
        where, metal = used.get() or gpu(), self.metal  # as device() says, without a call
        if where is not None and not isinstance(where, Nowhere):
            form = self.mlx if metal is None else self._on_metal(where, metal, arguments, keywords)
            return form(*arguments, **keywords)
        loaded, c = library(), self.c
        if loaded is not None and c is not None:
            if c.takes is None:
                x: Any = arguments[0]
                fits = x.dtype == mx.float32 and x.size
            else:
                fits = c.takes(*arguments, **keywords)
            if fits:
                recorder = recording.get()
                native = (
                    function(loaded, c) if recorder is None else recorder.native(c.name, c.types)
                )
                return c.form(native, *arguments, **keywords)
        return self.mlx(*arguments, **keywords)

    @property
    def in_metal(self) -> bool:
        """True where Metal kernels may run it in this context."""
        return self.metal is not None and device() is not None

    def is_custom(self, *arguments: P.args, **keywords: P.kwargs) -> bool:
        """Return whether a call with these arguments runs the Metal form."""
        where, metal = device(), self.metal
        if where is None or metal is None:
            return False
        return self._on_metal(where, metal, arguments, keywords) is metal.form

    def _on_metal(
        self, where: Device, metal: InMetal[P, R], arguments: Arguments, keywords: Mapping[str, Any]
    ) -> Callable[P, R]:
        """Choose the form; in the simulator the kernel's, whatever it is worth."""
        if metal.takes is not None and not metal.takes(*arguments, **keywords):
            return self.mlx
        if isinstance(where, Simulator) or where.trusted:
            return metal.form
        if metal.decided is not None and metal.decided(*arguments, **keywords):
            return metal.form
        return metal.form if registry().verdict(self, arguments, keywords).custom else self.mlx


@cache
def function(loaded: Library, c: InC[..., Any]) -> Function:
    """Return the C function of a form, declared once; one that does nothing where it has none."""
    return loaded.function(c.name, *c.types) if c.name else lambda *_: 0


def on_cpu() -> bool:
    """Return whether MLX's own operations run on a CPU."""
    return mx.default_device().type == mx.DeviceType.cpu


def activation_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return float32 on a CPU, where MLX's 16-bit products are slow and, quantized, off by 4 %."""
    return mx.float32 if device() is None and on_cpu() else stored


def anything(*_: object, **__: object) -> bool:
    """Return True: what a form takes that takes all arguments."""
    return True


def is_filled(x: mx.array, *_: object, **__: object) -> int:
    """Return whether x is not empty: what a C form takes that casts its arguments."""
    return x.size


def in_float32(form: Callable[P, R]) -> Callable[P, R]:
    """Return the form of its floating arrays in float32: an oracle for results of any dtype."""

    def oracle(*arguments: P.args, **keywords: P.kwargs) -> R:
        wide: Any = (widened(each) for each in arguments)
        return form(*wide, **keywords)

    return oracle


def widened(value: object) -> object:
    """Return a floating array in float32, anything else as it is."""
    if isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating):
        return value.astype(mx.float32)
    return value


def bucket(rows: int) -> int:
    """Return the next power of two: rows for which one verdict does."""
    return 1 << max(0, rows - 1).bit_length()


def arrays(result: Any) -> list[mx.array]:
    """Return the arrays of a result, which may be a tuple."""
    parts = result if isinstance(result, tuple) else (result,)
    return [part for part in parts if isinstance(part, mx.array)]


@dataclass(slots=True)
class Registry:
    """Verdicts of one chip, its versions and state of the kernels, kept in `file`."""

    file: VerdictFile
    clock: Callable[[], float] = time.perf_counter
    warn: Callable[[str], None] = lambda text: print(f"warning: {text}", file=sys.stderr)
    _verdicts: dict[str, Verdict] = field(default_factory=dict)
    _known: dict[Key, Verdict] = field(default_factory=dict)
    _broken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._verdicts |= self.file.read()

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """All verdicts by operation and key, as they are written to the file."""
        return dict(self._verdicts)

    def verdict(
        self,
        operation: Operation[..., Any],
        arguments: Arguments,
        keywords: Mapping[str, Any] = NO_KEYWORDS,
    ) -> Verdict:
        """Return the known verdict, else that of a trial with these arguments."""
        assert operation.metal is not None
        key = (operation.name, *operation.metal.key(*arguments, **keywords))
        if (known := self._known.get(key)) is not None:  # looked up at every call: no text is made
            return known
        name = " ".join(map(str, key))
        if name not in self._verdicts:
            arguments = signature(operation.mlx).bind(*arguments, **keywords).args
            if not self._decide(name, operation, arguments):
                return MEANWHILE
        known = self._known[key] = self._verdicts[name]
        return known

    def _decide(self, name: str, operation: Operation[..., Any], arguments: Arguments) -> bool:
        """Find or try the verdict; False where another process keeps us from trying."""
        with self.file.trial(name) as may_begin:
            if not may_begin:
                return False
            self._verdicts |= self.file.read()  # of processes that tried meanwhile
            if name not in self._verdicts:
                self._verdicts[name] = self._trial(operation, arguments)
                self.file.write(self._verdicts)
        for tried in (*self.file.failed, name):
            self._tell(tried.split()[0], self._verdicts[tried].reason)
        return True

    def _tell(self, operation: str, reason: str) -> None:
        """Warn of an operation's first kernel that is not used."""
        if reason and operation not in self._broken:
            self._broken.add(operation)
            self.warn(f"the Metal kernel {operation} is not used: {reason}")

    def _trial(self, operation: Operation[..., Any], arguments: Arguments) -> Verdict:
        try:
            reason = _disagreement(operation, arguments)
        except (RuntimeError, ValueError) as error:  # MLX raises both for what does not compile
            reason = f"it does not run ({str(error).strip().splitlines()[0]})"
        if reason:
            return Verdict(False, reason)
        custom, mlx = self._times(operation, arguments)
        return Verdict(custom <= mlx, "", custom, mlx)

    def _times(self, operation: Operation[..., Any], arguments: Arguments) -> tuple[float, float]:
        """Return medians in microseconds, taken alternately; both have run before."""
        assert operation.metal is not None
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(RUNS):
            for durations, call in zip(times, (operation.metal.form, operation.mlx), strict=True):
                start = self.clock()
                mx.eval(operation.metal.results(call(*arguments)))
                durations.append(self.clock() - start)
        custom, mlx = (sorted(durations)[RUNS // 2] * 1e6 for durations in times)
        return custom, mlx


def _disagreement(operation: Operation[..., Any], arguments: Arguments) -> str:
    """Return where custom and reference differ, in words; empty where they do not.

    Of the edges only those count that launch no kernel beside those of these arguments.
    """
    metal = operation.metal
    assert metal is not None
    dtype = next(each.dtype for each in arguments if isinstance(each, mx.array))
    with launching() as ours:
        out = metal.form(*arguments)
    for edge in metal.edges(dtype):
        at_edge = None
        with launching() as theirs:
            try:
                at_edge = metal.form(*edge)
            except (RuntimeError, ValueError):
                if theirs <= ours:
                    raise
        if theirs <= ours and (said := _compared(operation, edge, at_edge)):
            return said
    return _compared(operation, arguments, out)


def exact(operation: Operation[..., Any], arguments: Arguments) -> Sequence[mx.array]:
    """Return the oracle's results; it runs on the CPU: a GPU may round float32 products to TF32."""
    metal = operation.metal
    assert metal is not None
    with mx.stream(mx.Device(mx.DeviceType.cpu)), using(Nowhere()):
        results = metal.results((metal.oracle or operation.reference)(*arguments))
        mx.eval(results)
    return results


def _compared(operation: Operation[..., Any], arguments: Arguments, out: Any) -> str:
    metal = operation.metal
    assert metal is not None
    oracle = exact(operation, arguments)
    custom, mlx = metal.results(out), metal.results(operation.mlx(*arguments))
    mx.eval(custom, mlx)
    for x, oracle_x in zip(custom, oracle, strict=True):
        if (off := difference(x, oracle_x)) > TOLERANCE.get(x.dtype, 0):
            key = " ".join(map(str, metal.key(*arguments)))
            return f"it is off by {off:.2g} of the largest value (case {key})"
    return ""


def difference(x: mx.array, oracle: mx.array) -> float:
    """Return the largest difference against the largest value; infinite where only one is NaN."""
    x, oracle = x.astype(mx.float32), oracle.astype(mx.float32)
    if x.shape != oracle.shape or mx.any(mx.isnan(x) != mx.isnan(oracle)).item():
        return float("inf")
    finite = mx.isfinite(oracle)
    differs = mx.where(finite, 0, x != oracle).astype(mx.bool_)
    if mx.any(differs & ~mx.isnan(oracle)).item():
        return float("inf")
    off = mx.max(mx.where(finite, mx.abs(x - oracle), 0)).item()
    largest = mx.max(mx.where(finite, mx.abs(oracle), 0)).item()
    assert isinstance(off, float) and isinstance(largest, float)
    return off / largest if largest else off


@cache
def registry() -> Registry:
    """Return this process's registry, of the GPU in use."""
    chip, system = str(mx.device_info()["device_name"]), platform.mac_ver()[0] or "none"
    return Registry(VerdictFile(verdict_file(chip, f"{MLX}-{system}")))
