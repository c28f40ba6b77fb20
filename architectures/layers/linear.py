"""Linear layers of the same input, joined into one product at load where their storage agrees."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...kernels.linear.activation import Activation, activate
from ...kernels.linear.linear import gated_linear, linear
from ...kernels.linear.linear_mlx import Epilogue
from ...kernels.linear.rows import add
from ...kernels.linear.rows import join as join_rows
from ...kernels.linear.weight import (
    Weight,
    arrays_of,
    pack,
    pack_pair,
    storage,
    take_rows,
    with_arrays,
)
from ..parameters import Matrix, Parameters
from .norm import AnyNorm, fused


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer, in several parts where they could not be joined."""

    parts: tuple[tuple[Weight, mx.array | None], ...]  # a weight and its bias

    @classmethod
    def load(
        cls, parameters: Parameters, modules: Sequence[tuple[str, int]], columns: int, bias: bool
    ) -> "Linear":
        """Read modules, given by name and outputs, whose outputs follow one another."""
        weights = [parameters.matrix(name, rows, columns) for name, rows in modules]
        biases = [parameters.vector(f"{name}.bias", rows) for name, rows in modules if bias]
        return cls.joined(weights, biases)

    @classmethod
    def one(
        cls, parameters: Parameters, module: str, rows: int, columns: int, bias: bool = False
    ) -> "Linear":
        """Read one module, of `rows` outputs."""
        return cls.load(parameters, [(module, rows)], columns, bias)

    @classmethod
    def joined(cls, weights: Sequence[Matrix], biases: Sequence[mx.array] = ()) -> "Linear":
        """Join weights of the same input, with a bias each or with none."""
        return cls(_with_biases([pack(weight) for weight in join(weights)], list(biases)))

    @classmethod
    def load_pair(
        cls,
        parameters: Parameters,
        modules: Sequence[str],
        rows: int,
        columns: int,
        bias: bool,
        gate_last: bool = False,
    ) -> "Linear":
        """Read a gate and its up projection, each of `rows` outputs, for `gated` alone.

        They are two modules, or one whose first half is the gate, or its last.
        """
        size = 2 * rows // len(modules)
        weights = [parameters.matrix(name, size, columns) for name in modules]
        biases = [parameters.vector(f"{name}.bias", size) for name in modules if bias]
        gate, up = halves(weights[0]) if len(weights) == 1 else weights
        if not gate_last:
            return cls.paired(gate, up, biases)
        return cls.paired(up, gate, [half for each in biases for half in mx.split(each, 2)[::-1]])

    @classmethod
    def paired(cls, gate: Matrix, up: Matrix, biases: Sequence[mx.array] = ()) -> "Linear":
        """Join a gate and its up projection, for `gated` alone."""
        paired = pack_pair(gate, up) if storage(gate) == storage(up) else None
        weights = join([gate, up]) if paired is None else ()
        packed = [paired] if paired else [pack(each) for each in weights]
        return cls(_with_biases(packed, list(biases)))

    def __call__(
        self, x: mx.array, residual: mx.array | None = None, norm: AnyNorm | None = None
    ) -> mx.array:
        """Return norm(x) times weight, + bias, + residual."""
        x, norm = fused(x, norm)
        if len(self.parts) == 1:
            ((weight, bias),) = self.parts
            return linear(x, weight, Epilogue(bias, residual), norm)
        x = x if norm is None else norm(x)
        parts = [linear(x, weight, Epilogue(bias)) for weight, bias in self.parts]
        y = join_rows(parts)
        return y if residual is None else add(y, residual)

    def gated(
        self, x: mx.array, activation: Activation = "silu", norm: AnyNorm | None = None
    ) -> mx.array:
        """Return activation(gate) * up of norm(x), where the parts are a gate and its up part."""
        x, norm = fused(x, norm)
        if len(self.parts) == 1:
            ((weight, bias),) = self.parts
            return gated_linear(x, weight, Epilogue(bias, None, activation), norm)
        return activate(self(x, norm=norm), activation)


def _with_biases(
    weights: Sequence[Weight], biases: list[mx.array]
) -> tuple[tuple[Weight, mx.array | None], ...]:
    """Return each weight with its bias, one bias if there is but one weight."""
    if biases and len(weights) == 1:
        biases = [_stack(biases)]
    each: Sequence[mx.array | None] = biases or [None] * len(weights)
    return tuple(zip(weights, each, strict=True))


def join(weights: Sequence[Matrix]) -> tuple[Matrix, ...]:
    """Return one weight where kind, dtype, bits and group agree, else the parts as they are."""
    first = weights[0]
    if len(weights) == 1 or any(storage(weight) != storage(first) for weight in weights):
        return tuple(weights)
    joined = [_stack(parts) for parts in zip(*map(arrays_of, weights), strict=True)]
    return (with_arrays(first, joined),)


def _stack(parts: Sequence[mx.array]) -> mx.array:
    """Join arrays and evaluate at once, so that they are free before the next layer is read."""
    joined = parts[0] if len(parts) == 1 else mx.concatenate(list(parts), axis=0)
    mx.eval(joined)
    return joined


def halves(weight: Matrix) -> tuple[Matrix, Matrix]:
    """Return the first and the last half of a weight's rows."""
    first, last = np.split(np.arange(weight.outputs), 2)
    return take_rows(weight, first), take_rows(weight, last)
