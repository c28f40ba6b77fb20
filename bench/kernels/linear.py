"""Linear layers as a decoding step asks for them, with the norms and sums around them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bessemer.bench.kernels.workload import Arrays, Demand, Dimensions, Workload, stored_bytes
from bessemer.kernels.linear.linear import gated_linear, linear
from bessemer.kernels.linear.linear_mlx import Epilogue, linear_mlx
from bessemer.kernels.linear.linear_rows import MAX_ROWS
from bessemer.kernels.norm.rms_norm import Norm

EPS = 1e-6


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
    if demand.rows > MAX_ROWS:
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
    arrays = Arrays(demand, np.random.default_rng(0))
    weight = arrays.weight(layer.outputs, layer.inputs)
    x = arrays.normal(demand.rows, layer.inputs)
    norm = Norm(arrays.normal(layer.inputs), EPS) if layer.normed else None
    results = layer.outputs // 2 if layer.gated else layer.outputs
    operation = "linear" if demand.rows == 1 else "linear_rows"
    residual = arrays.normal(demand.rows, results) if layer.summed else None
    around = [x, *([norm.weight] if norm else []), *([] if residual is None else [residual])]
    minimum = stored_bytes(weight) + sum(array.nbytes for array in around)
    minimum += demand.rows * results * demand.dtype.size
    epilogue = Epilogue(residual=residual, activation="silu" if layer.gated else None)
    ours = gated_linear if layer.gated else linear
    return Workload(
        operation,
        layer.name,
        lambda: [ours(x, weight, epilogue, norm)],
        lambda: [linear_mlx(x, weight, epilogue, norm)],
        minimum,
    )
