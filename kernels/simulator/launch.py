"""One dispatch: memory for each argument, the run, and what came of it."""

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .arrays import Extent, copy_in, copy_out, extent_of, filled, made_of, output_bytes
from .buffers import POISON, Borrower, Guarded, borrowed
from .compiler import Made
from .counts import Ran, report, seen_words
from .diagnose import explained, source_line
from .dispatch import (
    CELL_BYTES,
    MAX_ATOMIC_SITES,
    MODES,
    PROBLEMS,
    Buffer,
    Dispatch,
    Site,
    SiteCount,
    block_counters,
    entry,
    load,
    one_at_a_time,
    run,
)
from .options import Mode, Options, SimulatorError
from .report import Report
from .signature import Argument, Definition, Signature

Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Launch:
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
    options: Options


@dataclass(frozen=True, slots=True)
class Outcome:
    outputs: list[mx.array]
    report: Report
    problem: str  # in words, or empty
    kinds: frozenset[str]  # of the problems


@dataclass(frozen=True, slots=True)
class Place:
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


def launch(call: Launch, made: Made, mode: Mode) -> Outcome:
    with one_at_a_time(), borrowed() as borrower:
        places = [_place(call, argument, borrower) for argument in call.signature.arguments]
        names = [place.argument.name for place in places]
        tracked = [_tracked(place, mode) for place in places]
        dispatch, keep = _dispatch(call, made, mode, places, tracked)
        library = load(made.path)
        counters = block_counters(library, len(made.blocks)) if mode != "fast" else None
        if counters is not None:
            ctypes.memset(counters, 0, ctypes.sizeof(counters))
        dispatch.entry = entry(library)
        began = time.perf_counter()
        run(dispatch)
        seconds = time.perf_counter() - began
        counted = Ran(
            call.definition.name,
            mode,
            seconds,
            dispatch,
            names,
            made.sites,
            made.blocks,
            list(counters or ()),
            lambda line: source_line(call.definition, line),
        )
        result = report(counted)
        del keep, tracked
        return _outcome(call, dispatch, places, made, result)


def _place(call: Launch, argument: Argument, borrower: Borrower) -> Place:
    if argument.role == "output":
        return _output(call, argument, borrower)
    source = call.inputs[argument.index]
    if argument.role == "shape":
        source = extent_of(source.shape)
    elif argument.role == "strides":
        source = extent_of(source.strides)
    elif argument.role == "ndim":
        source = extent_of(np.array([source.view.ndim], np.int32))
    memory = borrower.take(source.size)
    copy_in(source, memory.base)
    writable = argument.role == "input" and argument.index in call.in_place
    return Place(argument, memory, source.first, writable, True, source)


def _output(call: Launch, argument: Argument, borrower: Borrower) -> Place:
    shape, dtype = call.output_shapes[argument.index], call.output_dtypes[argument.index]
    memory = borrower.take(output_bytes(shape, dtype))
    initialised = call.init_value is not None
    values = memory.values()
    if call.init_value is None:
        values.fill(POISON)
    elif values.size:
        values[:] = filled(shape, dtype, call.init_value)
    return Place(argument, memory, 0, True, initialised, None)


def _tracked(place: Place, mode: Mode) -> list[np.ndarray]:
    """The bitmaps of bytes seen, and shadow cells; none where nothing asks for them."""
    if mode == "fast":
        return []
    words = seen_words(place.memory.base, place.memory.size)
    bitmaps: list[np.ndarray] = [np.zeros(words, np.uint64) for _ in range(3)]
    if mode == "check" and place.writable:
        bitmaps.append(np.zeros(place.memory.size * CELL_BYTES, np.uint8))
    return bitmaps


def _buffer(place: Place, tracked: Sequence[np.ndarray]) -> Buffer:
    memory = place.memory
    made = Buffer(memory.base, memory.size, memory.low, memory.high, place.origin)
    made.writable = place.writable
    made.initialised = place.initialised
    for kind, bitmap in enumerate(tracked[:3]):
        made.seen[kind] = bitmap.ctypes.data
    if len(tracked) > 3:
        made.shadow = tracked[3].ctypes.data
    return made


def _dispatch(
    call: Launch,
    made: Made,
    mode: Mode,
    places: Sequence[Place],
    tracked: Sequence[list[np.ndarray]],
) -> tuple[Dispatch, list[object]]:
    """The structure, and what must live as long as it."""
    options = call.options
    buffers = (Buffer * len(places))(*map(_buffer, places, tracked))
    arguments = (ctypes.c_void_p * len(places))(*(place.origin for place in places))
    room = len(made.sites) + MAX_ATOMIC_SITES
    sites = (Site * room)(*(Site(s.space, s.kind, s.line, s.size) for s in made.sites))
    counts = (SiteCount * room)()
    dispatch = Dispatch()
    dispatch.arguments = ctypes.addressof(arguments)
    dispatch.grid[:] = call.grid
    dispatch.group[:] = call.threadgroup
    dispatch.buffers = buffers
    dispatch.buffer_count = len(places)
    dispatch.mode = MODES[mode]
    dispatch.sites = sites
    dispatch.counts = counts
    dispatch.site_count = len(made.sites)
    dispatch.reverse = options.order == "reverse"
    dispatch.strict_simd = options.strict_simd
    dispatch.line_bytes = options.line_bytes
    dispatch.seconds = options.seconds
    return dispatch, [buffers, arguments, sites, counts]


def _outcome(
    call: Launch, dispatch: Dispatch, places: Sequence[Place], made: Made, result: Report
) -> Outcome:
    found = min(dispatch.problem_count, len(dispatch.problems))
    kinds = {PROBLEMS[dispatch.problems[i].kind] for i in range(found)}
    dirty = [place.argument.name for place in places if not place.memory.clean()]
    names = [place.argument.name for place in places]
    problem = explained(call.definition, dispatch, names, made.sites) if kinds else ""
    if dirty and not problem:
        kinds.add("out-of-bounds")
        problem = f"[simulator] kernel '{call.definition.name}': out-of-bounds: bytes beside "
        problem += f"{', '.join(dirty)} changed"
    if problem:
        return Outcome([], result, problem, frozenset(kinds))
    for place in places:
        if place.writable and place.source is not None:
            copy_out(place.source, place.memory.base)
    outputs = [
        made_of(place.memory.values(), call.output_shapes[i], call.output_dtypes[i])
        for i, place in enumerate(place for place in places if place.source is None)
    ]
    return Outcome(outputs, result, "", frozenset())


def check_aliases(call: Launch) -> None:
    """An input that is written to must not be another's memory too: here each has its own copy."""
    for written in call.in_place:
        for other, lies in enumerate(call.inputs):
            if other != written and call.inputs[written].overlaps(lies):
                names = call.definition.input_names
                raise SimulatorError(
                    f"[simulator] input {names[written]} is written in place and shares memory "
                    f"with input {names[other]}: the simulator cannot model that"
                )
