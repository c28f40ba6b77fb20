"""Counts of what one dispatch did: bytes, lines, barriers, operations."""

from dataclasses import dataclass

from .options import Mode

SMALL = 32 * 1024  # bytes of a buffer that stays in a cache once it is there

# By the numbers of msl_runtime.h.
SIMD_OPERATIONS = (
    *("", "sum", "product", "max", "min", "and", "or", "xor", "shuffle", "prefix", "ballot"),
    *("quad", "matrix_multiply", "matrix_load_store"),
)
SPACES = ("", "device", "constant", "threadgroup")


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes: asked for by all lanes; moved, once for the lanes of an instruction; and distinct."""

    requested: int = 0
    moved: int = 0
    unique: int = 0


@dataclass(frozen=True, slots=True)
class BufferFlow:
    name: str
    size: int
    loads: Flow
    stores: Flow
    atomics: Flow

    @property
    def moved(self) -> int:
        return self.loads.moved + self.stores.moved + self.atomics.moved

    @property
    def unique(self) -> int:
        return self.loads.unique + self.stores.unique + self.atomics.unique


@dataclass(frozen=True, slots=True)
class SharedFlow:
    """Threadgroup memory: bytes asked for and moved."""

    requested: int = 0
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Threadgroup:
    size: int  # bytes of the kernel's variables
    loads: SharedFlow
    stores: SharedFlow
    atomics: SharedFlow
    bank_cycles: int


@dataclass(frozen=True, slots=True)
class LineFlow:
    """The accesses of one kind in one line of the source."""

    file: str
    line: int
    text: str
    space: str
    kind: str
    accesses: int  # of threads
    instructions: int  # of simdgroups
    requested: int
    moved: int
    lines: int  # of the device's cache; 0 in threadgroup memory
    bank_cycles: int  # of threadgroup memory
    efficiency: float  # moved bytes of those in the lines touched; 1 in threadgroup memory


@dataclass(frozen=True, slots=True)
class DispatchReport:
    """A dispatch's counts; in the fast mode without buffers, lines and operations."""

    kernel: str
    mode: Mode
    seconds: float
    threads: int
    threadgroups: int
    threadgroup_barriers: int
    simdgroup_barriers: int
    simd_operations: dict[str, int]
    divergent_simd_operations: int
    matrix_flops: int
    device_atomics: int
    threadgroup_atomics: int
    switches: int
    threadgroup: Threadgroup
    program_constant_bytes: int
    operations: dict[str, int]
    buffers: tuple[BufferFlow, ...]
    lines: tuple[LineFlow, ...]

    def buffer(self, name: str) -> BufferFlow:
        return next(buffer for buffer in self.buffers if buffer.name == name)

    def moved(self, small: int = SMALL) -> int:
        """Return the bytes to and from device memory, if a small buffer's travel once."""
        return sum(each.unique if each.size <= small else each.moved for each in self.buffers)

    def reread(self, small: int = SMALL) -> int:
        """Return the bytes that `moved` leaves out: small buffers' after the first time."""
        return sum(each.moved - each.unique for each in self.buffers if each.size <= small)


def simd_operation(number: int) -> str:
    if number < len(SIMD_OPERATIONS):
        return SIMD_OPERATIONS[number]
    return f"operation_{number}"
