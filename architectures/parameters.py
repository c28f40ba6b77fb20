"""How a decoder asks for a checkpoint's tensors: by name, each once, layer by layer."""

from typing import Protocol

import mlx.core as mx

from ..kernels.linear import Weight


class Parameters(Protocol):
    """A name that is missing, or a shape that differs, is the implementation's error to raise."""

    @property
    def dtype(self) -> mx.Dtype:
        """What activations, norms and bias vectors are held in."""
        ...

    def vector(self, name: str, size: int) -> mx.array:
        """(size,) in `dtype`, evaluated."""
        ...

    def matrix(self, module: str, rows: int, columns: int) -> Weight:
        """The weight of a module as stored, dense or quantized, evaluated."""
        ...
