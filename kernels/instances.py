"""The texts that Metal kernels are compiled from, by the calls that ask for them."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from math import prod
from typing import Any

import mlx.core as mx

from .catalog import metal_operations
from .metal.device import Listing, using
from .metal.library import BoundKernel
from .metal.source import KernelSource
from .registry import Arguments, Operation
from .simulator.signature import Definition, Operand, sign, text
from .variants import VARIANTS

DTYPES = (mx.float32, mx.float16, mx.bfloat16)  # of activations


@dataclass(frozen=True, slots=True)
class Instance:
    """A kernel for these types and sizes: what MLX compiles after its own preamble."""

    kernel: str
    function: str  # its name for Metal
    template: tuple[tuple[str, int | bool | str], ...]
    inputs: tuple[tuple[str, bool, bool], ...]  # type; whether a scalar; whether in constant memory
    outputs: tuple[str, ...]
    in_place: tuple[str, ...]  # inputs that it writes to all the same
    threads: int  # of a threadgroup
    text: str

    @property
    def file(self) -> str:
        """Return a name that this text alone has."""
        return f"{self.kernel}-{hashlib.sha256(self.text.encode()).hexdigest()[:10]}.metal"


def instance_of(launch: BoundKernel, inputs: Sequence[mx.array]) -> Instance:
    """Return what a launch of these inputs is compiled from."""
    source, asked = launch.kernel.source, launch.arguments
    definition = _definition(source)
    operands = tuple(map(Operand.of, inputs))
    signature = sign(definition, operands, asked["output_dtypes"], asked["template"])
    return Instance(
        source.name,
        signature.function,
        tuple((name, _plain(value)) for name, value in asked["template"]),
        tuple((_plain(each.dtype), each.scalar, each.small) for each in operands),
        tuple(map(_plain, asked["output_dtypes"])),
        launch.kernel.in_place,
        prod(asked["threadgroup"]),
        text(definition, signature),
    )


@cache
def _definition(source: KernelSource) -> Definition:
    texts = (source.body_text, source.header_text)
    return Definition(source.name, source.inputs, source.outputs, *texts, False)


def _plain(value: Any) -> Any:
    return str(value).removeprefix("mlx.core.") if isinstance(value, mx.Dtype) else value


@contextmanager
def listing() -> Iterator[set[Instance]]:
    """Collect the instances that the block would launch; none runs, and results are zeros."""
    found: set[Instance] = set()
    with using(Listing(lambda launch, inputs: found.add(instance_of(launch, inputs)))):
        yield found


def cases(operation: Operation[..., Any], dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield the arguments that together launch an operation's kernels in all of their forms."""
    metal = operation.metal
    assert metal is not None
    more = VARIANTS.get(operation.name, lambda _: iter(()))
    for arguments in chain(metal.edges(dtype), more(dtype)):
        if metal.takes is None or metal.takes(*arguments):
            yield arguments


def instances(names: Iterable[str] = ()) -> list[Instance]:
    """Return the instances of all cases, of these operations or of all, in an order that stays."""
    operations = metal_operations()
    with listing() as found:
        for name in names or operations:
            metal = operations[name].metal
            assert metal is not None
            for dtype in DTYPES:
                for arguments in cases(operations[name], dtype):
                    metal.form(*arguments)
    return sorted(found, key=lambda each: (each.kernel, each.function, each.in_place, each.threads))
