"""Models of any published shape without weights: files with headers alone, arrays of one zero.

What runs the host needs shapes. Memory stays small, whatever the model's size.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import mlx.core as mx

from bessemer.kernels.simulator.hollow import zeros

LARGE = 1 << 12  # elements from which on an array is one zero
T = TypeVar("T")


def load(build: Callable[[], T]) -> T:
    """Return what `build` loads from a checkpoint; nothing that it reads is read, or computed."""
    read, evaluate = mx.load, mx.eval

    def headers(file: str, **options: Any) -> dict[str, mx.array]:
        tensors: Any = read(file, **options)
        return {name: zeros(each.shape, each.dtype) for name, each in tensors.items()}

    setattr(mx, "load", headers)  # noqa: B010 - MLX's stubs call it a function
    setattr(mx, "eval", lambda *_: None)  # noqa: B010
    try:
        loaded = build()
    finally:
        setattr(mx, "load", read)  # noqa: B010
        setattr(mx, "eval", evaluate)  # noqa: B010
    return loaded


def hollow_out(root: object, package: str = "bessemer.") -> None:
    """Put one zero in place of each large array that an object of ours holds, however deep.

    Small ones are evaluated. What has no arrays to be replaced is the same object as before.
    """
    seen: set[int] = set()

    def visit(value: Any) -> Any:
        if isinstance(value, mx.array):
            return hollow(value)
        if isinstance(value, list | tuple):
            items = [visit(each) for each in value]
            same = all(a is b for a, b in zip(items, value, strict=True))
            return value if same else type(value)(items)
        if isinstance(value, dict):
            for key, each in value.items():
                value[key] = visit(each)
        elif type(value).__module__.startswith(package) and id(value) not in seen:
            seen.add(id(value))
            for name in _attributes(value):
                old = getattr(value, name)
                if (new := visit(old)) is not old:
                    object.__setattr__(value, name, new)
        return value

    visit(root)


def _attributes(value: object) -> Iterator[str]:
    yield from list(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                yield name


def hollow(array: mx.array) -> mx.array:
    """Return one zero in place of a large array, and a small one evaluated."""
    if array.size >= LARGE:
        return zeros(array.shape, array.dtype)
    mx.eval(array)
    return array
