"""All operations' workloads, by the operation's name."""

from collections.abc import Callable, Iterator
from importlib import import_module

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.kernels.workload import Demand, Workload

# The module of each operation's workloads.
MODULES = {
    "linear": "linear",
    "linear_rows": "linear",
    "attention": "attention",
    "latent_attention": "latent_attention",
    "head_linear": "latent_attention",
    "embedding": "embedding",
    "prefill_attention": "latent_attention",
    "route": "moe",
    "moe": "moe",
    "gated_delta": "state",
    "ssm_scan": "state",
    "conv1d": "state",
    "sample": "state",
    "logprobs": "state",
}


def workloads(operation: str, demand: Demand) -> Iterator[Workload]:
    """Yield each use that a model of that shape makes of the operation. Raises Unavailable."""
    if operation not in MODULES:
        known = ", ".join(MODULES)
        raise Unavailable(f"there is no kernel named {operation}; there are {known}")
    module = import_module(f"bessemer.bench.kernels.{MODULES[operation]}")
    every: Callable[[Demand], Iterator[Workload]] = module.workloads
    yield from (each for each in every(demand) if each.operation == operation)
