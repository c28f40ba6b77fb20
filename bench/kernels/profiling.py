"""A workload run in the simulator: what its kernels moved and computed, and where in the source."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx

from bessemer.bench.kernels.workload import Workload
from bessemer.bench.models.hardware import Chip
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import LaunchRecord, watching
from bessemer.kernels.metal.source import SourceLine
from bessemer.kernels.simulator.report import SMALL, DispatchReport

DISCLAIMER = "counted by a CPU model of Metal: not Apple's compiler, not a GPU"


@dataclass(frozen=True, slots=True)
class Spot:
    """One line of a .metal file (or of a header of ours), over all launches."""

    file: str
    line: int
    text: str
    device: int  # bytes moved to and from device memory
    threadgroup: int  # the same of threadgroup memory
    accesses: int
    efficiency: float  # moved bytes of those in the cache lines touched, in device memory
    bank_cycles: int


@dataclass(frozen=True, slots=True)
class KernelProfile:
    """One launch."""

    name: str
    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]
    threadgroup_bytes: int
    barriers: int
    simd_operations: Mapping[str, int]
    matrix_flops: int
    operations: Mapping[str, int]
    moved: int
    reread: int

    @property
    def flops(self) -> int:
        """The ALUs' matrix work, and every operation on floats; a multiply-add counts as two."""
        plain = sum(n for name, n in self.operations.items() if name.startswith("float_"))
        return self.matrix_flops + plain + 2 * self.operations.get("fma", 0)


@dataclass(frozen=True, slots=True)
class BufferTraffic:
    """A kernel's argument: bytes, and what of them moved (re-reads of small ones apart)."""

    kernel: str
    name: str
    size: int
    loaded: int
    stored: int
    unique: int


@dataclass(frozen=True, slots=True)
class Profile:
    """The figures of one workload, all its launches together."""

    operation: str
    use: str
    minimum: int
    kernels: tuple[KernelProfile, ...]
    buffers: tuple[BufferTraffic, ...]
    spots: tuple[Spot, ...]

    @property
    def moved(self) -> int:
        return sum(kernel.moved for kernel in self.kernels)

    @property
    def reread(self) -> int:
        return sum(kernel.reread for kernel in self.kernels)

    @property
    def ratio(self) -> float:
        return self.moved / self.minimum

    @property
    def flops(self) -> int:
        return sum(kernel.flops for kernel in self.kernels)

    def seconds(self, chip: Chip) -> float:
        """Return the rooflines of all launches, one after the other, without launching itself."""
        return sum(chip.seconds(kernel.moved, kernel.flops) for kernel in self.kernels)


def profile(workload: Workload, vectors: int = 1) -> Profile:
    """Run it once, counting; `vectors` of at most 32 KB may lie in one buffer, a row each."""
    with using(Simulator(SimulatorOptions(mode="count"))), watching() as launches:
        mx.eval(workload.call())
    reports = [(launch, launch.report) for launch in launches if launch.report is not None]
    return Profile(
        workload.operation,
        workload.name,
        workload.minimum,
        tuple(_kernel(launch, report, vectors * SMALL) for launch, report in reports),
        tuple(buffer for launch, report in reports for buffer in _buffers(launch, report)),
        tuple(sorted(_spots(reports), key=lambda spot: -spot.device - spot.threadgroup)),
    )


def _kernel(launch: LaunchRecord, report: DispatchReport, small: int) -> KernelProfile:
    return KernelProfile(
        launch.source.name,
        launch.grid,
        launch.threadgroup,
        report.threadgroup.size,
        report.threadgroup_barriers,
        report.simd_operations,
        report.matrix_flops,
        report.operations,
        report.moved(small),
        report.reread(small),
    )


def _buffers(launch: LaunchRecord, report: DispatchReport) -> Iterator[BufferTraffic]:
    for each in report.buffers:
        loaded, stored = each.loads.moved, each.stores.moved + each.atomics.moved
        yield BufferTraffic(launch.source.name, each.name, each.size, loaded, stored, each.unique)


def _spots(reports: Iterable[tuple[LaunchRecord, DispatchReport]]) -> Iterator[Spot]:
    """Yield lines of the text that MLX gets, brought back to the files they come from."""
    by_line: dict[tuple[str, int, str], list[tuple[str, int, int, int, int]]] = defaultdict(list)
    for launch, report in reports:
        texts: Mapping[str, Sequence[SourceLine]] = {
            "header": launch.source.header,
            "kernel": launch.source.body,
        }
        for line in report.lines:
            if line.file in texts and line.line <= len(texts[line.file]):
                place = texts[line.file][line.line - 1]
                key = (place.file, place.number, place.text)
                by_line[key].append(
                    (line.space, line.moved, line.accesses, line.lines, line.bank_cycles)
                )
    for (file, number, text), rows in by_line.items():
        device = sum(row[1] for row in rows if row[0] != "threadgroup")
        touched = 64 * sum(row[3] for row in rows)
        yield Spot(
            file,
            number,
            text,
            device,
            sum(row[1] for row in rows if row[0] == "threadgroup"),
            sum(row[2] for row in rows),
            device / touched if touched else 1.0,
            sum(row[4] for row in rows),
        )
