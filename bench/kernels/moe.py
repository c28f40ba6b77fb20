"""Workloads of a mixture of experts, router and experts, in a step and in a prompt."""

from collections.abc import Iterator, Sequence

import mlx.core as mx
import numpy as np

from bessemer.bench.kernels.workload import Arrays, Demand, Workload
from bessemer.kernels.linear.linear_mlx import linear_mlx
from bessemer.kernels.linear.weight import Dense, Quantized, Weight, arrays_of
from bessemer.kernels.moe.moe import Experts, Shared, moe, moe_mlx
from bessemer.kernels.moe.route import Gate, Routing, choose, route_reference
from bessemer.kernels.norm.rms_norm import Norm

EPS = 1e-6


def workloads(demand: Demand) -> Iterator[Workload]:
    """Yield both; nothing for a model without experts. With `prompt`, the rows are a prompt's."""
    model = demand.dimensions
    if not model.experts:
        return
    arrays = Arrays(demand, np.random.default_rng(0))
    x, norm = arrays.normal(demand.rows, model.hidden), Norm(arrays.normal(model.hidden), EPS)
    yield _router(demand, arrays, x, norm)
    yield _experts(demand, arrays, x, norm)


def _router(demand: Demand, arrays: Arrays, x: mx.array, norm: Norm) -> Workload:
    """Return the router, whose weight is not quantized, as most models' is not."""
    model = demand.dimensions
    weight = Dense(arrays.normal(model.experts, model.hidden, size=model.hidden**-0.5))
    router = Routing(model.per_token)
    results = demand.rows * model.per_token * (mx.int32.size + mx.float32.size)
    mx.eval(x, norm.weight, weight.weight)

    def mlx() -> Sequence[mx.array]:
        return route_reference(linear_mlx(x, weight, norm=norm), router)

    return Workload(
        "route",
        "router",
        lambda: choose(x, Gate(weight), router, norm),
        mlx,
        sum(array.nbytes for array in (x, norm.weight, weight.weight)) + results,
    )


def _experts(demand: Demand, arrays: Arrays, x: mx.array, norm: Norm) -> Workload:
    model = demand.dimensions
    count, wide, shared = model.experts, model.expert_width, None
    if model.shared_experts:
        width = model.shared_experts * wide
        shared = Shared(arrays.weight(2 * width, model.hidden), arrays.weight(model.hidden, width))
    experts = Experts(
        count,
        arrays.weight(count * wide, model.hidden),
        arrays.weight(count * wide, model.hidden),
        arrays.weight(count * model.hidden, wide),
        shared=shared,
    )
    picks = [arrays.random.permutation(count)[: model.per_token] for _ in range(demand.rows)]
    chosen = mx.array(np.stack(picks).astype(np.int32))
    shares = mx.array(arrays.random.random(chosen.shape, np.float32))
    routed = [array for weight in experts.weights for array in _arrays(weight)]
    always = [x, norm.weight, chosen, shares]
    if shared is not None:
        always += [*_arrays(shared.gate_up), *_arrays(shared.down)]
    mx.eval(routed, always)
    distinct = len(np.unique(np.stack(picks)))
    inner = (model.per_token + model.shared_experts) * wide  # written once, read once
    minimum = sum(each.nbytes for each in routed) * distinct // count
    minimum += sum(each.nbytes for each in always)
    minimum += demand.rows * (2 * inner + model.hidden) * demand.dtype.size
    return Workload(
        "moe",
        "experts of a prompt" if demand.prompt else "experts",
        lambda: [moe(x, experts, (chosen, shares), x, norm)],
        lambda: [moe_mlx(x, experts, (chosen, shares), x, norm)],
        minimum,
    )


def _arrays(weight: Weight) -> tuple[mx.array, ...]:
    assert isinstance(weight, Dense | Quantized)
    return arrays_of(weight)
