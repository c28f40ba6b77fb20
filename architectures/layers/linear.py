"""Linear layers of the same input, joined into one product at load where their storage agrees."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from ...kernels.linear import Dense, Quantized, Weight, linear
from ..parameters import Parameters


@dataclass(frozen=True, slots=True)
class Linear:
    """More than one weight where parts could not be joined; their outputs follow one another."""

    weights: tuple[Weight, ...]
    bias: mx.array | None

    @classmethod
    def load(
        cls, parameters: Parameters, modules: Sequence[tuple[str, int]], columns: int, bias: bool
    ) -> "Linear":
        """modules: names and output sizes, in the order of the result."""
        weights = join([parameters.matrix(name, rows, columns) for name, rows in modules])
        if not bias:
            return cls(weights, None)
        biases = [parameters.vector(f"{name}.bias", rows) for name, rows in modules]
        return cls(weights, _stack(biases))

    def __call__(self, x: mx.array) -> mx.array:
        outputs = [linear(x, weight) for weight in self.weights]
        y = outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=-1)
        return y if self.bias is None else y + self.bias


def join(weights: Sequence[Weight]) -> tuple[Weight, ...]:
    """One weight where kind, dtype, bits and group agree, else the parts as they are."""
    first = weights[0]
    if len(weights) == 1 or any(_storage(weight) != _storage(first) for weight in weights):
        return tuple(weights)
    if isinstance(first, Dense):
        return (Dense(_stack([w.weight for w in weights if isinstance(w, Dense)])),)
    parts = [w for w in weights if isinstance(w, Quantized)]
    return (
        Quantized(
            _stack([w.weight for w in parts]),
            _stack([w.scales for w in parts]),
            _stack([w.biases for w in parts]),
            first.group,
            first.bits,
        ),
    )


def _storage(weight: Weight) -> tuple[object, ...]:
    if isinstance(weight, Dense):
        return (weight.weight.dtype,)
    return (weight.scales.dtype, weight.group, weight.bits)


def _stack(parts: Sequence[mx.array]) -> mx.array:
    """Evaluated at once: what it joins is free before the next layer is read."""
    joined = parts[0] if len(parts) == 1 else mx.concatenate(list(parts), axis=0)
    mx.eval(joined)
    return joined
