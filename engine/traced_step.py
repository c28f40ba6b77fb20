"""A step that only decodes, traced once a shape by `mx.compile`, so that Python builds no graph.

What differs between steps of one shape are arrays, which go in and come out. All else is held in
the trace: weights, the kernels that were chosen, their grids. A shape is traced when it comes for
the second time: the first time kernels may have to be tried, which needs numbers.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

import mlx.core as mx

from ..architectures.decoder import Decoder
from ..architectures.layers.rope import Angles
from ..architectures.step import Cache, StepRows
from ..kernels.attention.pages import Layout, Pages
from ..kernels.recurrent.runs import SingleRuns
from .kv_cache import arrays_of

TRACES = 64  # shapes that are kept, the last used ones
ABSENT = mx.zeros((0,))  # in place of an array, where only the form of a cache is meant

Arrays = list[mx.array]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the steps of a trace have in common, but for what the model fixes."""

    rows: int
    widths: tuple[int, ...]  # pages a row, of each layout
    tails: tuple[bool, ...]  # the layout has tails, so they go on or begin
    starts: tuple[bool, ...]  # there were some before
    states: bool
    varies: bool  # some rope, so the rows' angles go in


@dataclass(frozen=True, slots=True)
class FlatCaches:
    """The caches as a trace leaves them: their arrays, one after the other.

    `forms` are the caches without arrays, `starts` says where the tails of each layout begin.
    """

    forms: Sequence[Cache]
    arrays: Arrays
    starts: Sequence[mx.array | None]


@dataclass(slots=True)
class NextCaches:
    """What a traced step leaves: it makes the arrays at `made`, of caches of these forms.

    The others it keeps; `kept` says which one before each was. All of it is known once it is
    traced.
    """

    made: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    forms: list[Cache] = field(default_factory=list)

    def filled(self, before: Arrays, made: Arrays, starts: Sequence[mx.array | None]) -> FlatCaches:
        arrays = [before[place] for place in self.kept]
        for place, array in zip(self.made, made, strict=True):
            arrays[place] = array
        return FlatCaches(self.forms, arrays, starts)


@dataclass(frozen=True, slots=True)
class Trace:
    """A traced step, and what it leaves, which it does not hold: so it is freed when dropped."""

    run: Callable[[Arrays], Arrays]
    after: NextCaches


class TracedStep:
    """A decoder's steps of one row a sequence.

    `groups` has the layout of each cache, or None.
    """

    def __init__(self, decoder: Decoder, groups: Sequence[int | None]) -> None:
        self._decoder = decoder
        self._groups = groups
        self._layouts = len(decoder.config.windows)
        self._traces: OrderedDict[Shape, Trace | None] = OrderedDict()

    def __call__(
        self, tokens: mx.array, step: StepRows, caches: FlatCaches
    ) -> tuple[Arrays, FlatCaches]:
        """Return what has to be evaluated, the logits of all rows first, and the next caches.

        Caches are written in place as Decoder has it.
        """
        shape = _shape(step, caches.starts)
        if shape not in self._traces:
            self._remember(shape)
            return self._untraced(tokens, step, caches)
        trace = self._traces[shape] = self._traces.pop(shape) or self._trace(shape, caches)
        starts = [each for each in caches.starts if each is not None]
        angles = self._angles_of(step)
        out = trace.run([tokens, *_arrays_of_step(step), *angles, *starts, *caches.arrays])
        tails = [each.tails for each in step.layouts]
        return out, trace.after.filled(caches.arrays, out[1:], tails)

    def flat(self, caches: Sequence[Cache]) -> FlatCaches:
        """Return the caches by their arrays."""
        starts: list[mx.array | None] = [None] * self._layouts
        for cache, group in zip(caches, self._groups, strict=True):
            if isinstance(cache, Pages) and group is not None and cache.tail is not None:
                starts[group] = cache.tail.starts
        return FlatCaches(self._forms(caches), arrays_of(caches), starts)

    def filled(self, caches: FlatCaches) -> list[Cache]:
        """Return the caches as handles."""
        return self._filled(caches.forms, iter(caches.arrays), caches.starts)

    def _remember(self, shape: Shape) -> None:
        self._traces[shape] = None
        if len(self._traces) > TRACES:
            self._traces.popitem(last=False)

    def _untraced(
        self, tokens: mx.array, step: StepRows, caches: FlatCaches
    ) -> tuple[Arrays, FlatCaches]:
        logits, after = self._decoder(tokens, step, self.filled(caches), None)
        flat = self.flat(after)
        return [logits, *flat.arrays], flat

    def _trace(self, shape: Shape, caches: FlatCaches) -> Trace:
        forms, left = caches.forms, NextCaches()

        def run(arrays: Arrays) -> Arrays:
            given = iter(arrays)
            tokens, step = next(given), self._with_angles(shape, _step_of(shape, given), given)
            starts = [next(given) if there else None for there in shape.starts]
            before = list(given)
            (logits, *new), after = self._untraced(tokens, step, FlatCaches(forms, before, starts))
            places = {id(array): place for place, array in enumerate(before)}
            left.forms = list(after.forms)
            left.kept = [places.get(id(array), 0) for array in new]
            left.made = [place for place, array in enumerate(new) if id(array) not in places]
            return [logits, *(new[place] for place in left.made)]

        return Trace(mx.compile(run), left)

    def _angles_of(self, step: StepRows) -> Arrays:
        """List the angles of ropes that vary, in the order of `_with_angles`."""
        if step.max_lens is None:
            return []
        angles = self._decoder.angles(step.max_lens)
        return [part for each in angles for part in each.varying]

    def _with_angles(self, shape: Shape, step: StepRows, given: Iterator[mx.array]) -> StepRows:
        if not shape.varies:
            return step
        angles = (
            Angles(next(given), next(given)) if rope.fixed is None else rope.angles(None)
            for rope in self._decoder.ropes
        )
        return replace(step, angles=tuple(angles))

    def _forms(self, caches: Iterable[Cache]) -> list[Cache]:
        return self._filled(caches, repeat(ABSENT), [ABSENT] * self._layouts)

    def _filled(
        self, forms: Iterable[Cache], arrays: Iterator[mx.array], starts: Sequence[mx.array | None]
    ) -> list[Cache]:
        """Return caches of these forms with the arrays; tails begin where their layout's do."""
        return [
            cache.with_arrays(arrays, None if group is None else starts[group])
            if isinstance(cache, Pages)
            else None
            if cache is None
            else cache.with_arrays(arrays)
            for cache, group in zip(forms, self._groups, strict=True)
        ]


def _shape(step: StepRows, starts: Sequence[mx.array | None]) -> Shape:
    return Shape(
        step.positions.shape[0],
        tuple(layout.tables.shape[1] for layout in step.layouts),
        tuple(layout.tails is not None for layout in step.layouts),
        tuple(each is not None for each in starts),
        step.runs is not None,
        step.max_lens is not None,
    )


def _arrays_of_step(step: StepRows) -> Arrays:
    """List a step's arrays in the order of `_step_of`."""
    arrays = [step.positions, step.layouts[0].owners] if step.layouts else [step.positions]
    for layout in step.layouts:
        arrays += [layout.slot_mapping, layout.tables]
        arrays += [] if layout.tails is None else [layout.tails]
    if step.runs is None:
        return arrays
    runs = step.runs.single()
    return [*arrays, runs.sequences, runs.slots]


def _step_of(shape: Shape, given: Iterator[mx.array]) -> StepRows:
    positions = next(given)
    owners = next(given) if shape.tails else positions
    layouts = []
    for tails in shape.tails:
        slots, tables, starts = next(given), next(given), next(given) if tails else None
        layouts.append(Layout(positions, slots, owners, tables, shape.rows, (), starts))
    runs = SingleRuns.from_arrays(next(given), next(given)) if shape.states else None
    return StepRows(tuple(layouts), positions, runs)
