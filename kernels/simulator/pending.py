"""The launches that evaluating arrays would make, read from MLX's graph before it is evaluated.

Nodes that only look at memory in another way launch nothing; each other one is a launch. Stand-ins
(hollow.py) are nodes of MLX's `Depends`, which a last input, a number, tells apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import mlx.core as mx

# Nodes that only look at memory in another way.
VIEWS = frozenset(
    (
        *("AsStrided", "Broadcast", "BroadcastAxes", "Depends", "ExpandDims", "Flatten"),
        *("Reshape", "Slice", "Split", "Squeeze", "StopGradient", "Transpose", "Unflatten", "View"),
        *("Synchronize", "Contiguous", "Copy"),
    )
)
MARK = mx.uint64  # of the number that tells a stand-in apart; nothing else in a graph has this type


@dataclass(frozen=True, slots=True)
class Operand:
    """An array of a launch: `root` is the memory that it looks at, which has `elements`."""

    root: str
    shape: tuple[int, ...]
    dtype: mx.Dtype
    elements: int

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that reading it moves: a broadcast array's are those of its source."""
        return min(self.size, self.elements) * self.dtype.size


@dataclass(frozen=True, slots=True)
class Pending:
    """A launch to come; `mark` is a stand-in's number, and None for a node of MLX's own."""

    name: str
    mark: int | None
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    arguments: tuple[Any, ...]
    waits: bool


class Reader:
    """Takes MLX's graph node by node (as `mx.export_function` tells it), and keeps its launches."""

    def __init__(self) -> None:
        self.launches: list[Pending] = []
        self.nodes = 0  # views and launches, but for outputs of `read`
        self._arrays: dict[str, Operand] = {}
        self._constants: dict[str, mx.array] = {}
        self._written: set[str] = set()  # since the last barrier

    def __call__(self, part: dict[str, Any]) -> None:
        if part["type"] == "constants":
            for name, array in part["constants"]:
                self._constants[name] = array
                self._own(name, array.shape, array.dtype)
        elif part["type"] == "primitive":
            self._node(part)

    def _node(self, part: dict[str, Any]) -> None:
        self.nodes += part["name"] != "StopGradient"
        names = [name for name, *_ in part["inputs"]]
        mark = self._mark(part["name"], names)
        outputs = part["outputs"]
        if part["name"] in VIEWS and mark is None:
            for i, (name, shape, dtype) in enumerate(outputs):
                self._view(name, names[min(i, len(names) - 1)] if names else name, shape, dtype)
            return
        if mark is not None:  # its first inputs stand for the outputs, its last is the number
            names = names[len(outputs) : -1]
        inputs = tuple(self._arrays[name] for name in names)
        waits = any(each.root in self._written for each in inputs)
        if waits:
            self._written.clear()
        made = tuple(self._own(*output) for output in outputs)
        self._written.update(each.root for each in made)
        arguments = tuple(part.get("arguments") or ())
        self.launches.append(Pending(part["name"], mark, inputs, made, arguments, waits))

    def _mark(self, name: str, inputs: Sequence[str]) -> int | None:
        last = self._constants.get(inputs[-1]) if name == "Depends" and inputs else None
        return None if last is None or last.dtype != MARK else int(NUMBER(last))

    def _own(self, name: str, shape: Sequence[int], dtype: mx.Dtype) -> Operand:
        made = Operand(name, tuple(shape), dtype, prod(shape))
        self._arrays[name] = made
        return made

    def _view(self, name: str, source: str, shape: Sequence[int], dtype: mx.Dtype) -> None:
        seen = self._arrays.get(source) or self._own(source, shape, dtype)
        self._arrays[name] = Operand(seen.root, tuple(shape), dtype, seen.elements)


NUMBER: Any = mx.array.item  # as MLX has it, whatever stands in its place later


def read(arrays: Sequence[mx.array]) -> Reader:
    """Return the launches that evaluating the arrays makes, in an order in which they can run.

    MLX tells of copies of all nodes but the outputs, which it changes: so those are others. Nodes
    of one kind and the same inputs it tells of once.
    """
    reader = Reader()
    mx.export_function(reader, lambda: tuple(mx.stop_gradient(each) for each in arrays))
    return reader
