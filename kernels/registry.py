"""Which implementation of an operation runs on a GPU: verified, then timed, and remembered.

A custom kernel is used where it compiles, agrees with the reference, and is at least as quick as
MLX's own operations. Verdicts are kept in a file for this chip, MLX version and kernel text.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

import mlx.core as mx

from .cpu.library import CompileError, cache_folder
from .metal.device import Gpu, device
from .metal.source import FOLDER, stripped

RUNS = 15  # timings of each, taken in turns; their median counts
MLX = str(mx.__version__)  # type: ignore[attr-defined]
Key = tuple[int | str | bool | mx.Dtype, ...]
Arguments = tuple[Any, ...]
P = ParamSpec("P")
R = TypeVar("R")

# The largest difference from the reference, against its largest value: some roundings of the type.
TOLERANCE = {mx.float32: 1e-4, mx.float16: 4e-3, mx.bfloat16: 3e-2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial found; times are microseconds, 0 where the kernel was not worth timing."""

    custom: bool
    reason: str
    custom_time: float = 0.0
    composed_time: float = 0.0


@dataclass(frozen=True, eq=False)
class Operation(Generic[P, R]):
    """An operation's implementations, all with one signature, and the files of its kernels.

    `key` tells arguments apart that may deserve another verdict; `edges` gives arguments that
    kernels get wrong most easily; `results` takes from a result the arrays that are defined.
    """

    name: str
    files: tuple[str, ...]
    custom: Callable[P, R]
    composed: Callable[P, R]
    reference: Callable[P, R]
    key: Callable[..., Key]
    edges: Callable[[mx.Dtype], Iterable[Arguments]] = lambda _: ()
    results: Callable[[Any], Sequence[mx.array]] = lambda result: arrays(result)

    def __call__(self, *arguments: P.args, **none: P.kwargs) -> R:
        """On the device in use."""
        assert not none, "a verdict is looked up by positional arguments"
        chosen = self.custom if uses_custom(self, arguments) else self.composed
        return chosen(*arguments, **none)


def uses_custom(operation: Operation[..., Any], arguments: Arguments) -> bool:
    """Whether the custom kernel runs; in the simulator it does, whatever it is worth."""
    where = device()
    if not isinstance(where, Gpu) or where.trusted:
        return True
    return registry().verdict(operation, arguments).custom


def bucket(rows: int) -> int:
    """The power of two that is no less: rows for which one verdict does."""
    return 1 << max(0, rows - 1).bit_length()


def arrays(result: Any) -> list[mx.array]:
    """An array, or those of a tuple."""
    found = result if isinstance(result, tuple) else (result,)
    return [each for each in found if isinstance(each, mx.array)]


@dataclass(slots=True)
class Registry:
    """Verdicts of one chip, MLX version and state of the kernels, kept in `file`."""

    file: Path | None
    clock: Callable[[], float] = time.perf_counter
    warn: Callable[[str], None] = lambda text: print(f"warning: {text}", file=sys.stderr)
    _verdicts: dict[str, Verdict] = field(default_factory=dict)
    _known: dict[Key, Verdict] = field(default_factory=dict)
    _broken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._verdicts |= self._read()

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """By operation and key, as they are written to the file."""
        return dict(self._verdicts)

    def verdict(self, operation: Operation[..., Any], arguments: Arguments) -> Verdict:
        """What was found before, else what a trial with these arguments finds now."""
        key = (operation.name, *operation.key(*arguments))
        if (known := self._known.get(key)) is None:  # looked up at every call: no text is made
            known = self._known[key] = self._settled(operation, arguments, key)
        return known

    def _settled(self, operation: Operation[..., Any], arguments: Arguments, key: Key) -> Verdict:
        name = " ".join(map(str, key))
        if (known := self._verdicts.get(name)) is None:
            known = self._verdicts[name] = self._trial(operation, arguments)
            self._write()
            if known.reason and operation.name not in self._broken:
                self._broken.add(operation.name)
                self.warn(f"the Metal kernel {operation.name} is not used: {known.reason}")
        return known

    def _trial(self, operation: Operation[..., Any], arguments: Arguments) -> Verdict:
        try:
            reason = _disagreement(operation, arguments)
        except (RuntimeError, ValueError) as error:  # MLX raises both for what does not compile
            reason = f"it does not run ({str(error).strip().splitlines()[0]})"
        if reason:
            return Verdict(False, reason)
        custom, composed = self._times(operation, arguments)
        return Verdict(custom <= composed, "", custom, composed)

    def _times(self, operation: Operation[..., Any], arguments: Arguments) -> tuple[float, float]:
        """Medians in microseconds, taken in turns; both have run before."""
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(RUNS):
            for taken, call in zip(times, (operation.custom, operation.composed), strict=True):
                start = self.clock()
                mx.eval(operation.results(call(*arguments)))
                taken.append(self.clock() - start)
        custom, composed = (sorted(taken)[RUNS // 2] * 1e6 for taken in times)
        return custom, composed

    def _read(self) -> dict[str, Verdict]:
        """A file that cannot be read is as good as none: the trials are made again."""
        if self.file is None:
            return {}
        with suppress(OSError, ValueError, TypeError):
            kept = json.loads(self.file.read_text())
            return {name: Verdict(**kept[name]) for name in kept}
        return {}

    def _write(self) -> None:
        if self.file is None:
            return
        fresh = self.file.with_suffix(".new")
        with suppress(OSError):  # a full disk costs another trial, no answer
            table = {name: asdict(verdict) for name, verdict in self._verdicts.items()}
            fresh.write_text(json.dumps(table, indent=1))
            fresh.replace(self.file)


def _disagreement(operation: Operation[..., Any], arguments: Arguments) -> str:
    """Where custom and reference differ, in words; empty where they do not."""
    dtype = next(each.dtype for each in arguments if isinstance(each, mx.array))
    for case in (*operation.edges(dtype), arguments):
        wanted = operation.results(operation.reference(*case))
        made = operation.results(operation.custom(*case))
        mx.eval(wanted, made, operation.results(operation.composed(*case)))
        for want, have in zip(wanted, made, strict=True):
            if (off := _difference(have, want)) > TOLERANCE.get(have.dtype, 0):
                key = " ".join(map(str, operation.key(*case)))
                return f"it is off by {off:.2g} of the largest value (case {key})"
    return ""


def _difference(have: mx.array, want: mx.array) -> float:
    """The largest, against the largest wanted value; infinite where only one is NaN."""
    have, want = have.astype(mx.float32), want.astype(mx.float32)
    if have.shape != want.shape or mx.any(mx.isnan(have) != mx.isnan(want)).item():
        return float("inf")
    known = mx.isfinite(want)
    same = mx.where(known, 0, have != want).astype(mx.bool_)
    if mx.any(same & ~mx.isnan(want)).item():
        return float("inf")
    off = mx.max(mx.where(known, mx.abs(have - want), 0)).item()
    most = mx.max(mx.where(known, mx.abs(want), 0)).item()
    assert isinstance(off, float) and isinstance(most, float)
    return off / most if most else off


@cache
def registry() -> Registry:
    """This process's, of the GPU in use."""
    return Registry(verdict_file(str(mx.device_info()["device_name"])))


def verdict_file(chip: str) -> Path | None:
    """Where the verdicts of a chip are kept; None where nothing can be."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.metal")):
        text = "\n".join(line.text for line in stripped(path))
        digest.update(path.name.encode() + b"\0" + text.encode() + b"\0")
    parts = (chip.replace(" ", "-"), MLX, digest.hexdigest()[:12])
    try:
        return cache_folder() / f"kernels-{'-'.join(parts)}.json"
    except CompileError:
        return None
