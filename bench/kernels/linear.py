"""Workloads of linear layers in a decoding step, with the norms and sums around them."""

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
class LinearUse:
    """A matrix of a model, and what is computed along with it."""

    name: str
    outputs: int
    inputs: int
    normed: bool = False
    gated: bool = False
    summed: bool = False  # to the residual stream


def workloads(demand: Demand) -> Iterator[Workload]:
    """Yield each layer; nothing for more rows than our kernels take: those are MLX's."""
    if demand.rows > MAX_ROWS:
        return
    for layer in _layers(demand.dimensions):
        yield _workload(layer, demand)


def _layers(model: Dimensions) -> Iterator[LinearUse]:
    """Yield one of each kind; those of experts belong to the experts' operation."""
    if model.latent:
        query = model.heads * (model.head_dim + model.latent_rope)
        joined, attended = (
            query + model.latent + model.latent_rope,
            model.heads * model.latent_value,
        )
        yield LinearUse("query and latent", joined, model.hidden, normed=True)
    else:
        joined, attended = (
            (model.heads + 2 * model.kv_heads) * model.head_dim,
            model.heads * model.head_dim,
        )
        yield LinearUse("query, key, value", joined, model.hidden, normed=True)
    yield LinearUse("output", model.hidden, attended, summed=True)
    if not model.experts:
        yield LinearUse("gate and up", 2 * model.width, model.hidden, normed=True, gated=True)
        yield LinearUse("down", model.hidden, model.width, summed=True)
    yield LinearUse("head", model.vocabulary, model.hidden, normed=True)


def _workload(layer: LinearUse, demand: Demand) -> Workload:
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
