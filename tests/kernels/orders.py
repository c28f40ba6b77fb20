"""MLX's ordering of dispatches, modelled: in whatever order it may run them, results must be equal.

MLX sees one kind of edge: an input that is an output of an earlier dispatch. What a kernel writes
in place it does not see; so two dispatches without an edge may run either way round.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

import mlx.core as mx
import numpy as np

from bessemer.kernels.simulator.arrays import copy_out, extent_of, viewed
from bessemer.kernels.simulator.reorder import RECORDINGS, Recorded


def edges(dispatches: Sequence[Recorded]) -> list[frozenset[int]]:
    """Return for each dispatch those that MLX runs before it.

    An output goes from kernel to kernel as it is: through MLX's operations it is not followed.
    """
    makers = {
        id(output): number
        for number, dispatch in enumerate(dispatches)
        for output in dispatch.outputs
    }
    return [
        frozenset(makers[id(array)] for array in dispatch.inputs if id(array) in makers)
        for dispatch in dispatches
    ]


def orders(dispatches: Sequence[Recorded], limit: int, seed: int = 0) -> Iterator[tuple[int, ...]]:
    """All orders that MLX allows; of more than `limit`, the reverse-most and a draw."""
    needs = edges(dispatches)
    listed = list(islice(_all(needs, ()), limit + 1))
    if len(listed) <= limit:
        yield from listed
        return
    source = random.Random(seed)
    seen: set[tuple[int, ...]] = set()
    while len(seen) < limit:
        order = _random_order(needs, None if not seen else source)
        if order not in seen:
            seen.add(order)
            yield order


def _ready(needs: Sequence[frozenset[int]], done: Sequence[int]) -> list[int]:
    past = frozenset(done)
    return [each for each, before in enumerate(needs) if each not in past and before <= past]


def _all(needs: Sequence[frozenset[int]], done: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if len(done) == len(needs):
        yield done
    for each in _ready(needs, done):
        yield from _all(needs, (*done, each))


def _random_order(needs: Sequence[frozenset[int]], source: random.Random | None) -> tuple[int, ...]:
    """Draw an order; without a source of chance the last that is ready, which is reverse-most."""
    done: list[int] = []
    while len(done) < len(needs):
        ready = _ready(needs, done)
        done.append(source.choice(ready) if source else ready[-1])
    return tuple(done)


def replay(dispatches: Sequence[Recorded], order: Sequence[int]) -> list[list[mx.array]]:
    """Run them in this order; return the outputs of each, in the order of the recording.

    Arrays from outside that are written in place begin as before the first dispatch; afterwards
    they hold what this run wrote.
    """
    if sorted(order) != list(range(len(dispatches))):
        raise ValueError(f"an order has every dispatch once, not {order}")
    token = RECORDINGS.set(())
    try:
        for array, before in _external(dispatches).values():
            copy_out(extent_of(viewed(array)), before.ctypes.data)
        return _run(dispatches, order)
    finally:
        RECORDINGS.reset(token)


def _run(dispatches: Sequence[Recorded], order: Sequence[int]) -> list[list[mx.array]]:
    arrays: dict[int, mx.array] = {}  # by the identity of the recorded output
    results: dict[int, list[mx.array]] = {}
    for number in order:
        dispatch = dispatches[number]
        inputs = [arrays.get(id(array), array) for array in dispatch.inputs]
        results[number] = dispatch.kernel(inputs=inputs, **dispatch.arguments)
        arrays.update(
            (id(old), new) for old, new in zip(dispatch.outputs, results[number], strict=True)
        )
    return [results[number] for number in range(len(dispatches))]


def _external(dispatches: Sequence[Recorded]) -> dict[int, tuple[mx.array, np.ndarray]]:
    """Return the arrays written in place that are no outputs, with copies from the beginning."""
    outputs = {id(output) for dispatch in dispatches for output in dispatch.outputs}
    arrays: dict[int, tuple[mx.array, np.ndarray]] = {}
    for dispatch in dispatches:
        for index in sorted(dispatch.in_place):
            array = dispatch.inputs[index]
            if id(array) not in outputs:
                arrays.setdefault(id(array), (array, dispatch.before[index]))
    return arrays
