"""Where a model's weights come from, as far as its layers are concerned."""

from typing import Protocol

import mlx.core as mx

from ..kernels.weight import Dense, Quantized


class Parameters(Protocol):
    """Each tensor is taken once, by the name that mlx_lm gives it."""

    @property
    def dtype(self) -> mx.Dtype:
        """Of activations, and so of vectors."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name: checkpoints split or join some in two ways."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor that was not taken yet: convolutions are stored in two orders."""
        ...

    def vector(self, name: str, *shape: int, dtype: mx.Dtype | None = None) -> mx.array:
        """A norm's weight or a bias, in the dtype of activations or the one given, evaluated."""
        ...

    def stack(
        self, module: str, count: int, rows: int, columns: int, transposed: bool = False
    ) -> Dense | Quantized | None:
        """`count` matrices stored as one tensor, one below the other; None if not so.

        `transposed`: if the tensor has the module's own name, columns come before rows there.
        """
        ...

    def matrix(self, module: str, rows: int, columns: int) -> Dense | Quantized:
        """The weight of a module as stored, dense or quantized, evaluated."""
        ...

    def refuse(self, module: str, why: str) -> ValueError:
        """To be raised: one sentence on a module that cannot be run as it is stored."""
        ...
