"""Workloads on a step's logits, and on the states of linear attention and state spaces."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import mlx.core as mx
import numpy as np

from bessemer.bench.kernels.workload import Demand, Workload
from bessemer.kernels.recurrent.conv1d import Convolution, conv1d, conv1d_reference
from bessemer.kernels.recurrent.gated_delta import Rule, gated_delta, gated_delta_reference
from bessemer.kernels.recurrent.runs import Runs
from bessemer.kernels.recurrent.ssm_scan import Scan, ssm_scan, ssm_scan_reference
from bessemer.kernels.sampling.logprobs import logprobs_metal, logprobs_mlx
from bessemer.kernels.sampling.sample import Draws, sample, sample_mlx

Parts = Sequence[mx.array]

LIKELIEST = 20  # likeliest tokens with their scores
DRAWS = {  # temperature, top_k, top_p, min_p
    "greedy": (0.0, 0, 1.0, 0.0),
    "temperature": (1.0, 0, 1.0, 0.0),
    "top-p": (0.8, 0, 0.95, 0.0),
    "top-k, top-p, min-p": (0.8, 40, 0.95, 0.05),
}
# Of Qwen3-Next-80B-A3B, whose other layers are those of the shape that stands in for it.
STAND_IN = (2048, 128)  # hidden size and experts of qwen3-30b-a3b
KEY_HEADS, HEADS, DIM, WIDTH = 16, 32, 128, 4
CHANNELS = 2 * KEY_HEADS * DIM + HEADS * DIM
# Of Nemotron-3-Nano-30B-A3B, for which the same shape stands in, with as many experts.
GROUPS, SSM_HEADS, SSM_DIM, SSM_STATE = 8, 64, 64, 128


def workloads(demand: Demand) -> Iterator[Workload]:
    """Yield sampling and scores of a step; for qwen3-30b-a3b's shape, what keeps a state."""
    if not demand.prompt:
        yield from _logits(demand)
    if (demand.dimensions.hidden, demand.dimensions.experts) == STAND_IN:
        yield from _states(demand)
        yield from _scan(demand)


def _logits(demand: Demand) -> Iterator[Workload]:
    rows, size = demand.rows, demand.dimensions.vocabulary
    logits = (_normal(0, rows, size) * 5).astype(demand.dtype)  # peaked as a model's are
    mx.eval(logits)
    uniform = np.random.RandomState(2).uniform(size=rows)
    for name, setting in DRAWS.items():
        temperature, top_k, top_p, min_p = (np.full(rows, value) for value in setting)
        draws = Draws(temperature, top_k.astype(np.int32), top_p, min_p, uniform)
        ours, mlx = (partial(_alone, each, logits, draws) for each in (sample, sample_mlx))
        yield Workload("sample", name, ours, mlx, logits.nbytes + 4 * rows)
    each = (logits, range(rows), mx.zeros((rows,), mx.int32), LIKELIEST)
    minimum = logits.nbytes + rows * (4 + 8 * LIKELIEST)
    scored, by_mlx = partial(logprobs_metal, *each), partial(logprobs_mlx, *each)
    yield Workload("logprobs", f"the {LIKELIEST} likeliest", scored, by_mlx, minimum)


def _alone(sampler: Callable[[mx.array, Draws], mx.array], logits: mx.array, draws: Draws) -> Parts:
    return [sampler(logits, draws)]


def _states(demand: Demand) -> Iterator[Workload]:
    rows, dtype = demand.rows, demand.dtype
    count, runs = _runs(demand)
    x = _normal(0, rows, CHANNELS).astype(dtype)
    weight, window = _normal(1, WIDTH, CHANNELS), _normal(2, count, WIDTH - 1, CHANNELS)
    mx.eval(x, weight, window)
    convolve = (x, Convolution(weight), window, runs)
    minimum = 2 * x.nbytes + weight.nbytes + 2 * window.nbytes
    ours, mlx = partial(conv1d, *convolve), partial(conv1d_reference, *convolve)
    yield Workload("conv1d", "before the gated delta rule", ours, mlx, minimum)
    q, k = (_normal(seed, rows, KEY_HEADS, DIM).astype(dtype) for seed in (3, 4))
    v, state = _normal(5, rows, HEADS, DIM).astype(dtype), _normal(6, count, HEADS, DIM, DIM)
    g, beta = -mx.abs(_normal(7, rows, HEADS)), mx.sigmoid(_normal(8, rows, HEADS))
    mx.eval(q, k, v, g, beta, state)
    rule = (q, k, v, (g, beta), state, runs, Rule(DIM**-0.5))
    minimum = sum(part.nbytes for part in (q, k, v, v, g, beta, state, state))
    ours, mlx = partial(gated_delta, *rule), partial(gated_delta_reference, *rule)
    yield Workload("gated_delta", "prompt" if demand.prompt else "token", ours, mlx, minimum)


def _scan(demand: Demand) -> Iterator[Workload]:
    rows, (count, runs) = demand.rows, _runs(demand)
    x = _normal(9, rows, SSM_HEADS, SSM_DIM).astype(demand.dtype)
    b, c = (_normal(seed, rows, GROUPS, SSM_STATE).astype(demand.dtype) for seed in (10, 11))
    dt, bias, d = (
        _normal(seed, *shape, SSM_HEADS) for seed, shape in ((12, (rows,)), (13, ()), (14, ()))
    )
    dt, a = dt.astype(demand.dtype), -mx.exp(_normal(15, SSM_HEADS))
    state = _normal(16, count, SSM_HEADS, SSM_DIM, SSM_STATE)
    mx.eval(x, b, c, dt, bias, a, d, state)
    scan = (x, b, c, dt, Scan(bias, a, d), state, runs)
    minimum = sum(part.nbytes for part in (x, x, b, c, dt, bias, a, d, state, state))
    ours, mlx = partial(ssm_scan, *scan), partial(ssm_scan_reference, *scan)
    yield Workload("ssm_scan", "prompt" if demand.prompt else "token", ours, mlx, minimum)


def _runs(demand: Demand) -> tuple[int, Runs]:
    """Return how many sequences the rows are of, and where each lies."""
    count = 1 if demand.prompt else demand.rows
    lengths = [demand.rows // count] * count
    return count, Runs.of(lengths, list(range(count)), [False] * count)


def _normal(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape, np.float32))
