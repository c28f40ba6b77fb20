"""Linear layers as a decoding step asks for them, with the norms and sums around them."""

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from bessemer.bench.workload import Demand, Dimensions, Workload
from bessemer.kernels.linear import gated_linear, linear
from bessemer.kernels.linear_rows import MOST
from bessemer.kernels.product import gated_linear_composed, linear_composed
from bessemer.kernels.rms_norm import Norm
from bessemer.kernels.weight import Dense, Quantized

EPS = 1e-6
PLAIN = 16  # bits from which on weights are floats


@dataclass(frozen=True, slots=True)
class Layer:
    """A matrix of a model, and what is computed along with it."""

    name: str
    outputs: int
    inputs: int
    normed: bool = False
    gated: bool = False
    summed: bool = False  # to the residual stream


def workloads(demand: Demand) -> Iterator[Workload]:
    """Nothing for prompts of more rows than our kernels take: those are MLX's."""
    if demand.rows > MOST:
        return
    for layer in _layers(demand.dimensions):
        yield _workload(layer, demand)


def _layers(of: Dimensions) -> Iterator[Layer]:
    """One of each kind; those of experts belong to the experts' own operation."""
    if of.latent:
        query = of.heads * (of.head_dim + of.latent_rope)
        joined, attended = query + of.latent + of.latent_rope, of.heads * of.latent_value
        yield Layer("query and latent", joined, of.hidden, normed=True)
    else:
        joined, attended = (of.heads + 2 * of.kv_heads) * of.head_dim, of.heads * of.head_dim
        yield Layer("query, key, value", joined, of.hidden, normed=True)
    yield Layer("output", of.hidden, attended, summed=True)
    if not of.experts:
        yield Layer("gate and up", 2 * of.width, of.hidden, normed=True, gated=True)
        yield Layer("down", of.hidden, of.width, summed=True)
    yield Layer("head", of.vocabulary, of.hidden, normed=True)


def _workload(layer: Layer, demand: Demand) -> Workload:
    random, dtype = np.random.default_rng(0), demand.dtype

    def normal(*shape: int) -> mx.array:
        return mx.array(random.standard_normal(shape, np.float32)).astype(dtype)

    weight = _weight(layer, demand, random)
    x = normal(demand.rows, layer.inputs)
    norm = Norm(normal(layer.inputs), EPS) if layer.normed else None
    results = layer.outputs // 2 if layer.gated else layer.outputs
    operation = "linear" if demand.rows == 1 else "linear_rows"
    residual = normal(demand.rows, results) if layer.summed else None
    stored = [weight.weight]
    if isinstance(weight, Quantized):
        stored += [weight.scales, *([] if weight.biases is None else [weight.biases])]
    around = [x, *([norm.weight] if norm else []), *([] if residual is None else [residual])]
    mx.eval(stored, around)
    minimum = sum(array.nbytes for array in (*stored, *around))
    minimum += demand.rows * results * dtype.size
    if layer.gated:
        return Workload(
            operation,
            layer.name,
            lambda: [gated_linear(x, weight, norm=norm)],
            lambda: [gated_linear_composed(x, weight, norm=norm)],
            minimum,
        )
    return Workload(
        operation,
        layer.name,
        lambda: [linear(x, weight, None, residual, norm)],
        lambda: [linear_composed(x, weight, None, residual, norm)],
        minimum,
    )


def _weight(layer: Layer, demand: Demand, random: np.random.Generator) -> Dense | Quantized:
    outputs, inputs = layer.outputs, layer.inputs

    def normal(*shape: int) -> mx.array:
        return mx.array(random.standard_normal(shape, np.float32) / inputs).astype(demand.dtype)

    if demand.bits >= PLAIN:
        return Dense(normal(outputs, inputs))
    words = random.integers(0, 1 << 32, (outputs, inputs * demand.bits // 32), np.uint32)
    scales, biases = (normal(outputs, inputs // demand.group) for _ in range(2))
    return Quantized(mx.array(words), scales, biases, demand.group, demand.bits)
