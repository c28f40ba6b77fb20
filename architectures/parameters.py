"""How a decoder asks for a checkpoint's tensors: by name, each once, layer by layer."""

from typing import Protocol

import mlx.core as mx

from ..kernels.weight import Dense, Quantized


class Parameters(Protocol):
    """A name that is missing, or a shape that differs, is the implementation's error to raise."""

    @property
    def dtype(self) -> mx.Dtype:
        """What activations, norms and bias vectors are held in."""
        ...

    def vector(self, name: str, size: int) -> mx.array:
        """(size,) in `dtype`, evaluated."""
        ...

    def stack(self, module: str, count: int, rows: int, columns: int) -> Dense | Quantized | None:
        """`count` matrices that are stored as one tensor, one below the other; None if not so."""
        ...

    def matrix(self, module: str, rows: int, columns: int) -> Dense | Quantized:
        """The weight of a module as stored, dense or quantized, evaluated."""
        ...
