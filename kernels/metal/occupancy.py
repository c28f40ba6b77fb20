"""How many threadgroups keep a GPU busy: what kernels ask that may share one row's work."""

from collections.abc import Mapping
from types import MappingProxyType

from .device import CORES, device

# Memory is busy from about 14 to 26 simdgroups a core on, 560 to 1,024 on the 40 cores of the
# largest chips of one die. Threadgroups differ in size, and so do the numbers of them.
BUSY: Mapping[str, int] = MappingProxyType(
    {
        "attention": 256,  # of 4 simdgroups
        "latent_attention": 64,  # of 9, for latents of 576 values
        "linear": 320,  # of 2
        "linear_rows": 128,  # of 8, for 8 rows of x; half as many where they take 16
    }
)


def busy(operation: str) -> int:
    """Return how many threadgroups keep the device in use busy, by its cores."""
    where = device()
    cores = CORES if where is None else where.cores
    return max(1, BUSY[operation] * cores // CORES)
