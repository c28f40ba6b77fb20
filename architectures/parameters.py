"""A model's weights, as far as its layers ask for them."""

from typing import Protocol

import mlx.core as mx

from ..kernels.linear.weight import Dense, Quantized

Matrix = Dense | Quantized  # a weight as it is stored


class Parameters(Protocol):
    """The tensors of a checkpoint, each taken once by the name that mlx_lm gives it."""

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of activations, and so of vectors."""
        ...

    def has(self, name: str) -> bool:
        """Return whether there is such a tensor: some checkpoints split what others join."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor not yet taken: convolutions are stored in two orders."""
        ...

    def vector(self, name: str, *shape: int, dtype: mx.Dtype | None = None) -> mx.array:
        """Return a norm's weight or a bias, of dtype `dtype` or that of activations, evaluated."""
        ...

    def stack(
        self, module: str, count: int, rows: int, columns: int, transposed: bool = False
    ) -> Matrix | None:
        """Return `count` matrices stored as one tensor, one below the other; None if not so.

        `transposed`: if the tensor has the module's name, columns come before rows there.
        """
        ...

    def matrix(self, module: str, rows: int, columns: int) -> Matrix:
        """Return the weight of a module as it is stored, dense or quantized, evaluated."""
        ...

    def refuse(self, module: str, why: str) -> ValueError:
        """Return an error to raise: one sentence on a module that cannot be run as it is stored."""
        ...
