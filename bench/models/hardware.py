"""The bandwidths and speeds of Apple's chips, from hardware.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

FILE = Path(__file__).with_name("hardware.toml")


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip: bandwidth in GB/s, tflops of the ALUs in float32, and the share of the bandwidth
    that reading weights reaches."""

    key: str
    name: str
    bandwidth: float
    cores: int
    tflops: float
    reached: float

    def seconds(self, moved: int, flops: int) -> float:
        """Return the roofline: as long as the slower of memory and arithmetic takes."""
        return max(moved / (self.bandwidth * self.reached * 1e9), flops / (self.tflops * 1e12))

    @property
    def ridge(self) -> float:
        """The operations a byte from which on arithmetic takes longest."""
        return self.tflops * 1e3 / (self.bandwidth * self.reached)


@cache
def chips() -> Mapping[str, Chip]:
    """Return the chips by key, as `--chip` takes them, in the order of the file."""
    table = tomllib.loads(FILE.read_text())
    return MappingProxyType({key: Chip(key, **values) for key, values in table.items()})
