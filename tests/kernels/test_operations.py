"""Every operation that a GPU would verify before use: here in the simulator, on its edges."""

import mlx.core as mx
import pytest

from bessemer.kernels.catalog import OPERATIONS, metal_operations
from bessemer.kernels.instances import listing
from bessemer.kernels.metal.device import Simulator, using
from bessemer.kernels.metal.source import metal_files, sources
from bessemer.kernels.registry import InMetal, Operation, _disagreement

METAL_OPERATIONS = metal_operations()


def metal_of(operation: Operation) -> InMetal:
    assert operation.metal is not None
    return operation.metal


DTYPES = (mx.float32, mx.float16, mx.bfloat16)


@pytest.mark.parametrize(("number", "name"), list(enumerate(METAL_OPERATIONS)))
def test_it_agrees_with_its_reference(number: int, name: str) -> None:
    """Each operation is run in one type: its own tests have them all."""
    dtype = DTYPES[number % len(DTYPES)]
    operation = METAL_OPERATIONS[name]
    edges = list(metal_of(operation).edges(dtype))
    assert edges, "an operation without edges is verified on nothing that is hard"
    with using(Simulator()):
        assert _disagreement(operation, edges[-1]) == ""


# Kernels that the trials of these types launch at no edge are here with the reason.
UNTRIED: dict[str, str] = {}


def test_every_kernel_has_an_edge() -> None:
    """A kernel's verdict hangs on the edges that launch nothing but what it launches itself."""
    with listing() as found:
        for operation in METAL_OPERATIONS.values():
            for dtype in DTYPES:
                for edge in metal_of(operation).edges(dtype):
                    metal_of(operation).form(*edge)
    kernels = {name for path in metal_files().values() for name in sources(path)}
    assert kernels - {instance.kernel for instance in found} == set(UNTRIED)


@pytest.mark.parametrize("name", METAL_OPERATIONS)
def test_its_key_is_short_and_its_files_are_there(name: str) -> None:
    operation = METAL_OPERATIONS[name]
    for arguments in metal_of(operation).edges(mx.float32):
        assert all(
            isinstance(part, int | str | mx.Dtype) for part in metal_of(operation).key(*arguments)
        )
    assert set(metal_of(operation).files) <= set(metal_files())


def test_every_metal_file_belongs_to_an_operation() -> None:
    used = {file for operation in METAL_OPERATIONS.values() for file in metal_of(operation).files}
    assert used == set(metal_files())
    assert used == {file for row in OPERATIONS.values() for file in row.metal}
    tried = {name for name, row in OPERATIONS.items() if row.metal}
    assert set(METAL_OPERATIONS) == tried | {
        name for row in OPERATIONS.values() for name in row.more
    }
