"""One dispatch gets memory for each argument, runs, and gives outputs and a report."""

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .arrays import Extent, copy_in, copy_out, extent_of, filled, from_bytes, output_bytes
from .buffers import ALIGNMENT, POISON, Borrower, Guarded, allocated_at, borrowed
from .compiler import CompiledKernel
from .counts import FinishedDispatch, report, seen_words
from .diagnose import explained, source_line
from .dispatch import (
    CELL_BYTES,
    MAX_ATOMIC_SITES,
    MODES,
    PROBLEMS,
    Dispatch,
    NativeBuffer,
    NativeSite,
    SiteCount,
    block_counters,
    entry,
    load,
    one_at_a_time,
    run,
)
from .options import Mode, SimulatorError, SimulatorOptions
from .report import DispatchReport
from .signature import Argument, Definition, Signature

Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """A checked call: the inputs lie as the kernel shall see them."""

    definition: Definition
    signature: Signature
    inputs: Sequence[Extent]
    in_place: frozenset[int]  # inputs that may be written to
    output_shapes: Sequence[tuple[int, ...]]
    output_dtypes: Sequence[mx.Dtype]
    grid: Size
    threadgroup: Size
    init_value: float | None
    options: SimulatorOptions


@dataclass(frozen=True, slots=True)
class LaunchResult:
    outputs: list[mx.array]
    report: DispatchReport
    problem: str  # in words, or empty
    kinds: frozenset[str]  # of the problems


@dataclass(frozen=True, slots=True)
class ArgumentMemory:
    """An argument's memory."""

    argument: Argument
    memory: Guarded
    first: int  # byte to which the kernel's pointer points
    writable: bool
    initialised: bool
    source: Extent | None  # what it is a copy of

    @property
    def origin(self) -> int:
        return self.memory.base + self.first


def launch(call: CheckedCall, compiled: CompiledKernel, mode: Mode) -> LaunchResult:
    with one_at_a_time(), borrowed() as borrower:
        places = [_place(call, argument, borrower) for argument in call.signature.arguments]
        names = [place.argument.name for place in places]
        tracked = [_tracked(place, mode) for place in places]
        dispatch, keep = _dispatch(call, compiled, mode, places, tracked)
        library = load(compiled.path)
        counters = block_counters(library, len(compiled.blocks)) if mode != "fast" else None
        if counters is not None:
            ctypes.memset(counters, 0, ctypes.sizeof(counters))
        dispatch.entry = entry(library)
        began = time.perf_counter()
        run(dispatch)
        seconds = time.perf_counter() - began
        counted = FinishedDispatch(
            call.definition.name,
            mode,
            seconds,
            dispatch,
            names,
            compiled.sites,
            compiled.blocks,
            list(counters or ()),
            lambda line: source_line(call.definition, line),
        )
        result = report(counted)
        outcome = _outcome(call, dispatch, places, compiled, result, mode)
        del keep, tracked
        return outcome


def _place(call: CheckedCall, argument: Argument, borrower: Borrower) -> ArgumentMemory:
    if argument.role == "output":
        return _output(call, argument, borrower)
    source = call.inputs[argument.index]
    if argument.role == "shape":
        source = extent_of(source.shape)
    elif argument.role == "strides":
        source = extent_of(source.strides)
    elif argument.role == "ndim":
        source = extent_of(np.array([source.view.ndim], np.int32))
    shift = _shift(source, call.options.shift) if argument.role == "input" else 0
    memory = borrower.take(source.size, shift)
    copy_in(source, memory.base)
    writable = argument.role == "input" and argument.index in call.in_place
    return ArgumentMemory(argument, memory, source.first, writable, True, source)


def _shift(source: Extent, elements: int) -> int:
    """Return how far from an aligned place MLX has the array: slices of others lie anywhere."""
    return (source.low - allocated_at() + elements * source.view.itemsize) % ALIGNMENT


def _output(call: CheckedCall, argument: Argument, borrower: Borrower) -> ArgumentMemory:
    shape, dtype = call.output_shapes[argument.index], call.output_dtypes[argument.index]
    memory = borrower.take(output_bytes(shape, dtype))
    initialised = call.init_value is not None
    values = memory.values()
    if call.init_value is None:
        values.fill(POISON)
    elif values.size:
        values[:] = filled(shape, dtype, call.init_value)
    return ArgumentMemory(argument, memory, 0, True, initialised, None)


def _tracked(place: ArgumentMemory, mode: Mode) -> list[np.ndarray]:
    """Allocate the bitmaps of bytes seen, and shadow cells, where the mode asks for them."""
    if mode == "fast":
        return []
    words = seen_words(place.memory.base, place.memory.size)
    bitmaps: list[np.ndarray] = [np.zeros(words, np.uint64) for _ in range(3)]
    if mode == "check" and place.writable:
        bitmaps.append(np.zeros(place.memory.size * CELL_BYTES, np.uint8))
    return bitmaps


def _buffer(place: ArgumentMemory, tracked: Sequence[np.ndarray]) -> NativeBuffer:
    memory = place.memory
    buffer = NativeBuffer(memory.base, memory.size, memory.low, memory.high, place.origin)
    buffer.writable = place.writable
    buffer.initialised = place.initialised
    for kind, bitmap in enumerate(tracked[:3]):
        buffer.seen[kind] = bitmap.ctypes.data
    if len(tracked) > 3:
        buffer.shadow = tracked[3].ctypes.data
    return buffer


def _dispatch(
    call: CheckedCall,
    compiled: CompiledKernel,
    mode: Mode,
    places: Sequence[ArgumentMemory],
    tracked: Sequence[list[np.ndarray]],
) -> tuple[Dispatch, list[object]]:
    """Fill the structure; also return what must live as long as it."""
    options = call.options
    buffers = (NativeBuffer * len(places))(*map(_buffer, places, tracked))
    arguments = (ctypes.c_void_p * len(places))(*(place.origin for place in places))
    capacity = len(compiled.sites) + MAX_ATOMIC_SITES
    sites = (NativeSite * capacity)(
        *(NativeSite(s.space, s.kind, s.line, s.size, s.align) for s in compiled.sites)
    )
    counts = (SiteCount * capacity)()
    dispatch = Dispatch()
    dispatch.arguments = ctypes.addressof(arguments)
    dispatch.grid[:] = call.grid
    dispatch.group[:] = call.threadgroup
    dispatch.buffers = buffers
    dispatch.buffer_count = len(places)
    dispatch.mode = MODES[mode]
    dispatch.sites = sites
    dispatch.counts = counts
    dispatch.site_count = len(compiled.sites)
    dispatch.reverse = options.order == "reverse"
    dispatch.strict_simd = options.strict_simd
    dispatch.line_bytes = options.line_bytes
    dispatch.seconds = options.seconds
    dispatch.flush = options.apple_like
    return dispatch, [buffers, arguments, sites, counts]


def _outcome(
    call: CheckedCall,
    dispatch: Dispatch,
    places: Sequence[ArgumentMemory],
    compiled: CompiledKernel,
    result: DispatchReport,
    mode: Mode,
) -> LaunchResult:
    count = min(dispatch.problem_count, len(dispatch.problems))
    kinds = {PROBLEMS[dispatch.problems[i].kind] for i in range(count)}
    dirty = [place.argument.name for place in places if not place.memory.clean()]
    names = [place.argument.name for place in places]
    problem = explained(call.definition, dispatch, names, compiled.sites) if kinds else ""
    if call.options.whole_outputs and mode == "check" and not problem:
        problem = _unwritten(call, dispatch, places)
        kinds |= {"unwritten output"} if problem else set()
    if dirty and not problem:
        kinds.add("out-of-bounds")
        problem = f"[simulator] kernel '{call.definition.name}': out-of-bounds: bytes beside "
        problem += f"{', '.join(dirty)} changed"
    if problem:
        return LaunchResult([], result, problem, frozenset(kinds))
    for place in places:
        if place.writable and place.source is not None:
            copy_out(place.source, place.memory.base)
    outputs = [
        from_bytes(place.memory.values(), call.output_shapes[i], call.output_dtypes[i])
        for i, place in enumerate(place for place in places if place.source is None)
    ]
    return LaunchResult(outputs, result, "", frozenset())


def _unwritten(call: CheckedCall, dispatch: Dispatch, places: Sequence[ArgumentMemory]) -> str:
    """Name the first byte of an output that no thread has written; empty where there is none."""
    for index, place in enumerate(places):
        if place.source is None and not place.initialised and place.memory.size:
            cells = (ctypes.c_uint32 * (place.memory.size * CELL_BYTES // 4)).from_address(
                dispatch.buffers[index].shadow
            )
            epochs = np.ctypeslib.as_array(cells)[:: CELL_BYTES // 4]  # of the last write
            if not epochs.all():
                first = int(np.argmin(epochs != 0))
                named = f"{place.argument.name}[byte {first}]"
                return f"[simulator] kernel '{call.definition.name}': unwritten output: {named}"
    return ""


def check_aliases(call: CheckedCall) -> None:
    """Raise SimulatorError for a written input that shares memory: here each has its own copy."""
    for written in call.in_place:
        for other, lies in enumerate(call.inputs):
            if other != written and call.inputs[written].overlaps(lies):
                names = call.definition.input_names
                raise SimulatorError(
                    f"[simulator] input {names[written]} is written in place and shares memory "
                    f"with input {names[other]}: the simulator cannot model that"
                )
