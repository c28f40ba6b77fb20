"""All operations' workloads, by the operation's name."""

from collections.abc import Callable, Iterator
from importlib import import_module

from bessemer.bench.contest import Unavailable
from bessemer.bench.workload import Demand, Workload

# The module of each operation's workloads.
MODULES = {
    "linear": "kernel_linear",
    "linear_rows": "kernel_linear",
    "attention": "kernel_attention",
    "latent_attention": "kernel_latent",
    "head_linear": "kernel_latent",
    "prefill_attention": "kernel_latent",
    "route": "kernel_moe",
    "moe": "kernel_moe",
    "gated_delta": "kernel_state",
    "ssm_scan": "kernel_state",
    "conv1d": "kernel_state",
    "sample": "kernel_state",
    "logprobs": "kernel_state",
}


def workloads(operation: str, demand: Demand) -> Iterator[Workload]:
    """Each use that a model of that shape makes of the operation. Raises Unavailable."""
    if operation not in MODULES:
        known = ", ".join(MODULES)
        raise Unavailable(f"there is no kernel named {operation}; there are {known}")
    module = import_module(f"bessemer.bench.{MODULES[operation]}")
    every: Callable[[Demand], Iterator[Workload]] = module.workloads
    yield from (each for each in every(demand) if each.operation == operation)
