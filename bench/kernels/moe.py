"""A mixture of experts, router and experts, for a step's tokens and for a prompt's."""

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
    """Nothing for a model without experts; with `prompt`, the rows are the prompt's."""
    of = demand.dimensions
    if not of.experts:
        return
    arrays = Arrays(demand, np.random.default_rng(0))
    x, norm = arrays.normal(demand.rows, of.hidden), Norm(arrays.normal(of.hidden), EPS)
    yield _router(demand, arrays, x, norm)
    yield _experts(demand, arrays, x, norm)


def _router(demand: Demand, arrays: Arrays, x: mx.array, norm: Norm) -> Workload:
    """Its weight is not quantized, as most models' is not."""
    of = demand.dimensions
    weight = Dense(arrays.normal(of.experts, of.hidden, size=of.hidden**-0.5))
    router = Routing(of.per_token)
    results = demand.rows * of.per_token * (mx.int32.size + mx.float32.size)
    mx.eval(x, norm.weight, weight.weight)

    def composed() -> Sequence[mx.array]:
        return route_reference(linear_mlx(x, weight, norm=norm), router)

    return Workload(
        "route",
        "router",
        lambda: choose(x, Gate(weight), router, norm),
        composed,
        sum(array.nbytes for array in (x, norm.weight, weight.weight)) + results,
    )


def _experts(demand: Demand, arrays: Arrays, x: mx.array, norm: Norm) -> Workload:
    of = demand.dimensions
    count, wide, shared = of.experts, of.expert_width, None
    if of.shared_experts:
        width = of.shared_experts * wide
        shared = Shared(arrays.weight(2 * width, of.hidden), arrays.weight(of.hidden, width))
    experts = Experts(
        count,
        arrays.weight(count * wide, of.hidden),
        arrays.weight(count * wide, of.hidden),
        arrays.weight(count * of.hidden, wide),
        shared=shared,
    )
    picks = [arrays.random.permutation(count)[: of.per_token] for _ in range(demand.rows)]
    chosen = mx.array(np.stack(picks).astype(np.int32))
    shares = mx.array(arrays.random.random(chosen.shape, np.float32))
    own = [array for weight in experts.weights for array in _arrays(weight)]
    always = [x, norm.weight, chosen, shares]
    if shared is not None:
        always += [*_arrays(shared.gate_up), *_arrays(shared.down)]
    mx.eval(own, always)
    distinct = len(np.unique(np.stack(picks)))
    inner = (of.per_token + of.shared_experts) * wide  # written once, read once
    least = sum(each.nbytes for each in own) * distinct // count + sum(e.nbytes for e in always)
    least += demand.rows * (2 * inner + of.hidden) * demand.dtype.size
    return Workload(
        "moe",
        "experts of a prompt" if demand.prompt else "experts",
        lambda: [moe(x, experts, (chosen, shares), x, norm)],
        lambda: [moe_mlx(x, experts, (chosen, shares), x, norm)],
        least,
    )


def _arrays(weight: Weight) -> tuple[mx.array, ...]:
    assert isinstance(weight, Dense | Quantized)
    return arrays_of(weight)
