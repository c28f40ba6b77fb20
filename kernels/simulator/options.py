"""The simulator's options and errors: cheap to import, for every start."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["fast", "count", "check"]
Language = Literal["3.1", "3.2", "4.0"]


class SimulatorError(RuntimeError):
    """A kernel did what Metal forbids, or leaves undefined."""


class MetalCompileError(SimulatorError):
    """Clang refused the text; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """Options of a run; `contract` lets clang fuse products and sums, `order` is simdgroups'.

    `apple_like` is the worst that Apple's documents allow: functions as wrong as the specification
    lets them be (tables 8.1 and 8.2), sums fused, subnormal numbers 0, any number where fast max
    and min meet NaN. `language` is the version of Metal. `shift` moves the inputs' first elements
    so many elements away from where memory is aligned. With `whole_outputs` the check mode refuses
    outputs of which elements are left unwritten. A kernel that takes longer than `seconds` is said
    to be endless.
    """

    mode: Mode = "fast"
    contract: bool = False
    order: Literal["forward", "reverse"] = "forward"
    strict_simd: bool = True
    line_bytes: int = 64
    seconds: float = 600.0
    apple_like: bool = False
    language: Language = "3.1"
    shift: int = 0
    whole_outputs: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """Return what these options are to clang."""
        fused = "on" if self.contract or self.apple_like else "off"
        version = self.language.replace(".", "") + "0"
        flags = (f"-ffp-contract={fused}", f"-D__METAL_VERSION__={version}")
        return (*flags, "-DMSL_APPLE_LIKE=1") if self.apple_like else flags
