"""The simulator's options and errors: cheap to import, for every start."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["fast", "count", "check"]


class SimulatorError(RuntimeError):
    """A kernel did what Metal forbids, or leaves undefined."""


class MetalCompileError(SimulatorError):
    """Clang refused the text; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """Options of a run; `contract` lets clang fuse products and sums, `order` is simdgroups'.

    A kernel that takes longer than `seconds` is said to be endless.
    """

    mode: Mode = "fast"
    contract: bool = False
    order: Literal["forward", "reverse"] = "forward"
    strict_simd: bool = True
    line_bytes: int = 64
    seconds: float = 600.0
