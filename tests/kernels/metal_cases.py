"""Cases that a Metal kernel's tests offer to the mutation test: small runs that notice a fault."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """`run` raises if the kernels of kernels/`file` are wrong; it takes a fraction of a second."""

    name: str
    file: str  # "linear.metal"
    run: Callable[[], None]
