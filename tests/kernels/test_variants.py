"""Tests of kernels/variants.py: the kernels compute of the arguments what they should."""

import mlx.core as mx
import pytest

from bessemer.kernels.catalog import metal_operations
from bessemer.kernels.instances import instances
from bessemer.kernels.metal.device import Simulator, using
from bessemer.kernels.metal.source import metal_files, sources
from bessemer.kernels.registry import TOLERANCE, difference, exact
from bessemer.kernels.variants import VARIANTS


def test_each_belongs_to_an_operation() -> None:
    assert VARIANTS.keys() <= metal_operations().keys()


def test_they_and_the_edges_launch_every_kernel() -> None:
    listed = {instance.kernel for instance in instances()}
    assert listed == {name for path in metal_files().values() for name in sources(path)}


@pytest.mark.parametrize("name", VARIANTS)
def test_one_of_them_agrees_with_its_reference(name: str) -> None:
    """One each runs here, the report on a GPU runs them all."""
    operation = metal_operations()[name]
    assert operation.metal is not None
    arguments = next(iter(VARIANTS[name](mx.float16)))
    assert operation.metal.takes is None or operation.metal.takes(*arguments)
    with using(Simulator()):
        out = operation.metal.results(operation.metal.form(*arguments))
    for x, oracle in zip(out, exact(operation, arguments), strict=True):
        assert difference(x, oracle) <= TOLERANCE.get(x.dtype, 0)
