"""A step that only decodes, prepared once a shape on a CPU: one call of C then runs all of it.

What differs between steps of a shape are numbers in arrays; they are copied to where the calls read
them. A shape is prepared when it comes for the second time, from two recordings: with the smallest
numbers in all arrays and results, and with the largest. Where those differ, a call has a number
that was taken from an array, and steps of this shape go on as they are.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

import mlx.core as mx
import numpy as np

from ..architectures.config import ModelConfig
from ..architectures.decoder import Decoder
from ..architectures.step import Cache, StepRows
from ..kernels.attention.pages import PAGE
from ..kernels.attention.rope import Table
from ..kernels.cpu.library import address
from ..kernels.cpu.program import Arena, Program
from ..kernels.cpu.recorder import Memory, NotRecorded, Recorder, Recording, recorded_by
from ..kernels.recurrent.runs import Runs
from ..kernels.registry import bucket
from .kv_cache import arrays_of

PROGRAMS = 64  # shapes that are known, the last used ones
ONCE = "it came once"
LAYER = 3000  # bytes of a layer's calls

Arrays = list[mx.array | np.ndarray]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the steps of a program have in common, but for what the model fixes."""

    rows: int
    widths: tuple[int, ...]  # pages a row at most, of each layout
    states: bool

    @classmethod
    def of(cls, step: StepRows) -> "Shape":
        widths = tuple(_width(layout.tables.shape[1]) for layout in step.layouts)
        return cls(step.positions.shape[0], widths, step.runs is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """A step's arrays in memory of their own, from which a program reads them."""

    tokens: mx.array
    step: StepRows
    numbers: list[np.ndarray]  # the same memory

    @classmethod
    def like(cls, tokens: mx.array, step: StepRows) -> "Inputs":
        """Allocate what a step with its ropes' tables needs."""
        assert step.tables is not None
        positions, owners = _empty(step.positions), _empty(step.positions)
        layouts = tuple(
            replace(
                layout,
                positions=positions,
                slot_mapping=_empty(layout.slot_mapping),
                owners=owners,
                tables=mx.zeros((layout.tables.shape[0], _width(layout.tables.shape[1])), mx.int32),
            )
            for layout in step.layouts
        )
        runs = step.runs and Runs(*map(np.zeros_like, step.runs.arrays))
        tables = tuple(Table(_empty(each.cos), _empty(each.sin)) for each in step.tables)
        own, empty = StepRows(layouts, positions, runs, tables=tables), _empty(tokens)
        return cls(empty, own, [np.asarray(each) for each in arrays_of_step(empty, own)])

    @property
    def arrays(self) -> Arrays:
        return arrays_of_step(self.tokens, self.step)

    def write(self, tokens: mx.array, step: StepRows) -> None:
        """Take the numbers of a step of the same shape; its tables may be narrower."""
        for into, array in zip(self.numbers, arrays_of_step(tokens, step), strict=True):
            into[tuple(map(slice, array.shape))] = array

    def write_extreme(self, vocabulary: int, fill: int) -> None:
        """Write the smallest numbers that may come, for 0, or the largest, for 1."""
        for into in self.numbers:
            into[...] = fill
        widths = [layout.tables.shape[1] for layout in self.step.layouts]
        tokens, positions = self.numbers[:2]
        tokens[...] = fill * (vocabulary - 1)
        positions[...] = fill * (PAGE * max(widths, default=1) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Workspace:
    """The memory that programs of so many rows at most share, since one runs at a time.

    Logits go to two places in turns, for those of the step before may not be read yet.
    """

    rows: int
    arena: Arena
    logits: tuple[mx.array, ...]  # (rows, vocabulary) float32

    @classmethod
    def of(cls, rows: int, vocabulary: int) -> "Workspace":
        logits = tuple(mx.zeros((rows, vocabulary)) for _ in range(2))
        mx.eval(logits)
        return cls(rows, Arena(), logits)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    inputs: Inputs
    program: Program
    logits: tuple[mx.array, ...]  # the workspace's, of these rows


class PreparedStep:
    """A decoder's steps of one row a sequence, in C."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._weights = Memory(arrays_within(decoder))
        self._known: OrderedDict[Shape, Prepared | str] = OrderedDict()
        self._caches: list[int] = []
        self._workspace = Workspace.of(0, decoder.config.vocab_size)
        self._turn = 0

    @property
    def refused(self) -> dict[Shape, str]:
        """The shapes that are not prepared, and why."""
        return {shape: known for shape, known in self._known.items() if isinstance(known, str)}

    def look(self, caches: Sequence[Cache]) -> None:
        """Look where the caches are, and forget what was prepared for others."""
        places = [address(array) for array in arrays_of(caches)]
        if places != self._caches:
            self._known.clear()
        self._caches = places

    def __call__(
        self, tokens: mx.array, step: StepRows, caches: Sequence[Cache]
    ) -> mx.array | None:
        """Return the logits of all rows, or None where a step of this shape is not prepared.

        The caches, which are where `look` saw them, are written in place.
        """
        shape = Shape.of(step)
        known = self._known.pop(shape, None)
        if known is ONCE:
            known = self._prepare(tokens, step, caches)
        self._known[shape] = known or ONCE
        if len(self._known) > PROGRAMS:
            self._known.popitem(last=False)
        if known is None or isinstance(known, str):
            return None
        known.inputs.write(tokens, self._with_tables(step))
        self._turn = 1 - self._turn
        logits = known.logits[self._turn]
        known.program(address(logits))
        return self._decoder.softcapped(logits.astype(mx.float32))  # a handle of the caller's own

    def _with_tables(self, step: StepRows) -> StepRows:
        return replace(step, tables=self._decoder.tables(step))

    def _prepare(self, tokens: mx.array, step: StepRows, caches: Sequence[Cache]) -> Prepared | str:
        """Return a program of such steps, or why there is none.

        Where it needs a larger workspace than the others had, those are forgotten.
        """
        inputs = Inputs.like(tokens, self._with_tables(step))
        memories = (self._weights, Memory(arrays_of(caches)), Memory(inputs.arrays))
        try:
            smallest, largest = (
                self._record(inputs, caches, Recorder(memories, fill)) for fill in (0, 1)
            )
        except NotRecorded as why:
            return str(why)
        if smallest != largest:
            return "a call has a number that was taken from an array"
        rows = step.positions.shape[0]
        if rows > self._workspace.rows:
            self._known.clear()
            self._workspace = Workspace.of(bucket(rows), self._decoder.config.vocab_size)
        logits = tuple(each[:rows] for each in self._workspace.logits)
        mx.eval(logits)
        return Prepared(inputs, Program(*smallest, self._workspace.arena), logits)

    def _record(
        self, inputs: Inputs, caches: Sequence[Cache], recorder: Recorder
    ) -> tuple[Recording, int]:
        """Return the calls of a step, and which result is the logits."""
        decoder = self._decoder
        inputs.write_extreme(decoder.config.vocab_size, recorder.fill)
        with recorded_by(recorder):
            x, after = decoder.hidden(inputs.tokens, inputs.step, caches)
            logits = decoder.product(x)
        if [*map(id, arrays_of(after))] != [*map(id, arrays_of(caches))]:
            raise NotRecorded("a cache was replaced")
        return recorder.recording, recorder.result(logits)


def program_bytes(config: ModelConfig, batch: int) -> int:
    """Estimate what programs take for steps of so many rows at most.

    That is their calls, the memory that they share (a few activations, of twice the rows, for it
    grows by twice), and a second place for logits.
    """
    widest = max(block.row_width for block in config.blocks)
    activations = 2 * bucket(batch) * (4 * config.hidden_size + 2 * widest)
    logits = bucket(batch) * config.vocab_size
    return LAYER * config.layers * min(batch, PROGRAMS) + 4 * (activations + logits)


def arrays_of_step(tokens: mx.array, step: StepRows) -> Arrays:
    """List a step's arrays, tokens and positions first."""
    arrays: Arrays = [tokens, step.positions]
    for layout in step.layouts:
        arrays += [layout.owners, layout.slot_mapping, layout.tables]
    if step.runs is not None:
        arrays += step.runs.arrays
    for table in step.tables or ():
        arrays += [table.cos, table.sin]
    return arrays


def arrays_within(value: object) -> Iterator[mx.array]:
    """Yield all arrays of a dataclass, and of those within it."""
    if isinstance(value, mx.array):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from arrays_within(getattr(value, each.name))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from arrays_within(each)


def _width(pages: int) -> int:
    """Return the next power of 8, so that widths are few: C reads no more pages than there are."""
    bits = (max(pages, 8) - 1).bit_length()
    return 1 << -(-bits // 3) * 3


def _empty(array: mx.array) -> mx.array:
    """Allocate an array of the same form."""
    empty = mx.zeros(array.shape, array.dtype)
    mx.eval(empty)
    return empty
