"""What an embedding is used for."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from bessemer.bench.kernels.workload import Arrays, Demand, Workload
from bessemer.kernels.linear.embedding import embedding, embedding_mlx
from bessemer.kernels.linear.weight import Quantized


def workloads(demand: Demand) -> Iterator[Workload]:
    """Yield the look-up of a step's tokens in quantized rows; MLX takes dense ones."""
    random = np.random.default_rng(0)
    model = demand.dimensions
    weight = Arrays(demand, random).weight(model.vocabulary, model.hidden)
    if not isinstance(weight, Quantized):
        return
    tokens = mx.array(random.integers(0, model.vocabulary, demand.rows, np.int32))
    row = model.hidden * (demand.bits / 8 + demand.dtype.size * (1 + 2 / demand.group))
    yield Workload(
        "embedding",
        "tokens",
        lambda: [embedding(tokens, weight, demand.dtype)],
        lambda: [embedding_mlx(tokens, weight, demand.dtype)],
        int(demand.rows * row) + tokens.nbytes,
    )
