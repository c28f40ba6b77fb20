"""A dispatch's report is read out of the runtime's structures."""

import ctypes
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .dispatch import LINE_BYTES, MAX_ATOMIC_SITES, Dispatch, NativeBuffer, Traffic
from .host import HEADER_LINE
from .instrument import Site
from .options import Mode
from .report import (
    SPACES,
    BufferFlow,
    DispatchReport,
    Flow,
    LineFlow,
    SharedFlow,
    Threadgroup,
    simd_operation,
)

KIND_NAMES = ("load", "store", "atomic")
SUMMED = ("accesses", "instances", "requested", "moved", "lines", "bank_cycles")


@dataclass(frozen=True, slots=True)
class FinishedDispatch:
    """A finished dispatch and what belongs to it."""

    kernel: str
    mode: Mode
    seconds: float
    dispatch: Dispatch
    names: Sequence[str]  # of the buffers
    sites: Sequence[Site]
    blocks: Sequence[Mapping[str, int]]
    block_counts: Sequence[int]
    source_line: Callable[[int], tuple[str, int, str]]


def report(finished: FinishedDispatch) -> DispatchReport:
    dispatch = finished.dispatch
    counted = finished.mode != "fast"
    lines = _lines(finished) if counted else ()
    return DispatchReport(
        kernel=finished.kernel,
        mode=finished.mode,
        seconds=finished.seconds,
        threads=dispatch.threads,
        threadgroups=dispatch.threadgroups,
        threadgroup_barriers=dispatch.threadgroup_barriers,
        simdgroup_barriers=dispatch.simdgroup_barriers,
        simd_operations={
            simd_operation(number): count
            for number, count in enumerate(dispatch.operations)
            if count
        },
        divergent_simd_operations=dispatch.divergent_simd,
        matrix_flops=dispatch.matrix_flops,
        device_atomics=dispatch.device_atomics,
        threadgroup_atomics=dispatch.threadgroup_atomics,
        switches=dispatch.switches,
        threadgroup=_threadgroup(dispatch, lines),
        program_constant_bytes=dispatch.global_constant_bytes,
        operations=_operations(finished),
        buffers=_buffers(finished) if counted else (),
        lines=lines,
    )


def _operations(finished: FinishedDispatch) -> dict[str, int]:
    total: Counter[str] = Counter()
    for block, times in zip(finished.blocks, finished.block_counts, strict=False):
        for name, count in block.items():
            total[name] += count * times
    return {name: count for name, count in sorted(total.items()) if count}


def _threadgroup(dispatch: Dispatch, lines: Sequence[LineFlow]) -> Threadgroup:
    traffic: Traffic = dispatch.threadgroup
    flows = [SharedFlow(traffic.requested[kind], traffic.moved[kind]) for kind in range(3)]
    cycles = sum(line.bank_cycles for line in lines)
    return Threadgroup(dispatch.threadgroup_bytes, flows[0], flows[1], flows[2], cycles)


def _buffers(finished: FinishedDispatch) -> tuple[BufferFlow, ...]:
    rows: list[BufferFlow] = []
    for index, name in enumerate(finished.names):
        buffer = finished.dispatch.buffers[index]
        flows = [
            Flow(buffer.traffic.requested[kind], buffer.traffic.moved[kind], _unique(buffer, kind))
            for kind in range(3)
        ]
        rows.append(BufferFlow(name, buffer.size, flows[0], flows[1], flows[2]))
    return tuple(rows)


def seen_words(base: int, size: int) -> int:
    """Count the 64-bit words of a bitmap over a buffer: one for each 64 bytes of address."""
    return (base + size + LINE_BYTES - 1) // LINE_BYTES - base // LINE_BYTES


def _unique(buffer: NativeBuffer, kind: int) -> int:
    words = seen_words(buffer.base, buffer.size)
    if not words or not buffer.traffic.moved[kind]:
        return 0
    bits = (ctypes.c_uint64 * words).from_address(buffer.seen[kind])
    return int(np.bitwise_count(np.ctypeslib.as_array(bits)).sum(dtype=np.int64))


def _lines(finished: FinishedDispatch) -> tuple[LineFlow, ...]:
    """Add up the sites of one line and kind, in the order of the source."""
    totals: defaultdict[tuple[str, int, int, int], Counter[str]] = defaultdict(Counter)
    texts: dict[tuple[str, int], str] = {}
    for index in range(len(finished.sites) + MAX_ATOMIC_SITES):
        count = finished.dispatch.counts[index]
        if not count.accesses:
            continue
        site = finished.dispatch.sites[index]
        file, line, text = finished.source_line(site.line)
        if index < len(finished.sites) and finished.sites[index].file not in ("kernel", "header"):
            file, line, text = finished.sites[index].file, site.line % HEADER_LINE, ""
        texts[file, line] = text
        total = totals[file, line, site.space, site.kind]
        total.update({name: getattr(count, name) for name in SUMMED})
    return tuple(
        _line(key, texts[key[0], key[1]], total, finished.dispatch.line_bytes)
        for key, total in sorted(totals.items())
    )


def _line(key: tuple[str, int, int, int], text: str, total: Counter[str], size: int) -> LineFlow:
    file, line, space, kind = key
    lines = total["lines"]
    return LineFlow(
        file=file,
        line=line,
        text=text,
        space=SPACES[space] or "unknown",
        kind=KIND_NAMES[kind],
        accesses=total["accesses"],
        instructions=total["instances"],
        requested=total["requested"],
        moved=total["moved"],
        lines=lines,
        bank_cycles=total["bank_cycles"],
        efficiency=total["moved"] / (lines * size) if lines else 1.0,
    )
