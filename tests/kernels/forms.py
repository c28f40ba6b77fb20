"""What the tests launch is in the list of kernels/instances.py: every pair of a launch's settings.

Sizes count as there or not; two settings that meet nowhere in the list may be what Apple's compiler
has not seen.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from typing import Any

import mlx.core as mx

from bessemer.kernels.instances import Instance, instance_of, instances
from bessemer.kernels.metal.device import Listing, device
from bessemer.kernels.metal.library import SMALLEST, BoundKernel
from bessemer.kernels.metal.source import metal_files

# Of a model: kernels loop over them. What else is in a template chooses between pieces of text.
SIZES = {
    *("D", "V", "G", "H", "HEADS", "KV_HEADS", "HIDDEN", "EXPERTS", "INPUTS", "OUTPUTS", "PICKS"),
    *("KEYS", "VALUES", "DIM", "WIDTH", "SHARED", "FROM", "PAIRS", "REST"),
}
Setting = tuple[str, Any]
LAUNCH = BoundKernel.__call__


def settings(instance: Instance) -> list[Setting]:
    """What of an instance matters to a compiler, but for how long its loops are."""
    template: Iterator[Setting] = (
        (name, bool(value) if name in SIZES else value) for name, value in instance.template
    )
    return [*template, ("in place", instance.in_place)]


def met(instance: Instance) -> Iterator[frozenset[Setting]]:
    yield from map(frozenset, combinations(settings(instance), 2))
    for place, operand in enumerate(instance.inputs):
        yield frozenset([(f"input {place}", operand)])


@cache
def listed() -> Mapping[str, frozenset[frozenset[Setting]]]:
    """By kernel, what meets in the list."""
    found: dict[str, set[frozenset[Setting]]] = {}
    for instance in instances():
        found.setdefault(instance.kernel, set()).update(met(instance))
    return {name: frozenset(each) for name, each in found.items()}


def unlisted(instance: Instance) -> list[list[Setting]]:
    """What of an instance meets nowhere in the list."""
    return [
        sorted(each, key=str) for each in met(instance) if each not in listed()[instance.kernel]
    ]


class Launches:
    """All launches of a process, each form once; `fresh` are those since the last look."""

    def __init__(self) -> None:
        self.fresh: list[Instance] = []
        self._seen: set[Any] = set()

    def note(self, bound: BoundKernel, inputs: list[mx.array]) -> None:
        """Note a launch of a kernel in one of our .metal files."""
        operands = tuple((each.dtype, each.ndim == 0, each.size < SMALLEST) for each in inputs)
        asked = bound.arguments
        template = tuple(asked["template"])  # whose numbers are not the truths that equal them
        key = (bound.kernel, repr(template), operands, tuple(asked["output_dtypes"]))
        if key not in self._seen:
            self._seen.add(key)
            if bound.kernel.source.body[0].file in metal_files():
                self.fresh.append(instance_of(bound, inputs))

    def wrong(self) -> list[str]:
        """Say what was launched since the last look and is not in the list."""
        fresh, self.fresh = self.fresh, []
        each = ((instance.kernel, unlisted(instance)) for instance in fresh)
        return [f"{kernel}: {lacking}" for kernel, lacking in each if lacking]


LAUNCHES = Launches()


def launch(bound: BoundKernel, inputs: list[mx.array]) -> list[mx.array]:
    """Stand for `BoundKernel.__call__`."""
    if not isinstance(device(), Listing):
        LAUNCHES.note(bound, inputs)
    return LAUNCH(bound, inputs)
