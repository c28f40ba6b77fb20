"""The use a model of some shape makes of an operation: our call, MLX's, and the least bytes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from bessemer.kernels.attention.pages import PAGE, Layout
from bessemer.kernels.linear.superblocks import Mode as Superblocks
from bessemer.kernels.linear.weight import Dense, Quantized
from bessemer.kernels.variants import superblocks

PLAIN = 16  # bits from which on weights are floats
VARIETY = 1 << 20  # random values, over and over: nobody looks at more of them
MIN_SCALE = 0.5  # of random scales, against the largest

Call = Callable[[], Sequence[mx.array]]


@dataclass(frozen=True, slots=True)
class Dimensions:
    """A config.json's numbers that kernels depend on; 0 stands for what a model does not have."""

    hidden: int
    vocabulary: int
    width: int  # of a dense feed-forward layer
    heads: int
    kv_heads: int
    head_dim: int
    experts: int = 0
    per_token: int = 0
    expert_width: int = 0
    shared_experts: int = 0
    latent: int = 0  # kv_lora_rank of multi-head latent attention
    latent_rope: int = 0
    latent_value: int = 0  # v_head_dim

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Dimensions":
        latent = config.get("kv_lora_rank") or 0
        width = config["hidden_size"] // config["num_attention_heads"]
        return cls(
            config["hidden_size"],
            config["vocab_size"],
            config["intermediate_size"],
            config["num_attention_heads"],
            config["num_key_value_heads"],
            config["qk_nope_head_dim"] if latent else config.get("head_dim") or width,
            config.get("num_experts") or config.get("n_routed_experts") or 0,
            config.get("num_experts_per_tok") or 0,
            config.get("moe_intermediate_size") or 0,
            config.get("n_shared_experts") or 0,
            latent,
            config.get("qk_rope_head_dim") or 0,
            config.get("v_head_dim") or 0,
        )


@dataclass(frozen=True, slots=True)
class Demand:
    """A demand: weights of `bits`, and a step of `rows` sequences at `context` tokens each.

    With `prompt`, the rows are one sequence's prompt.
    """

    dimensions: Dimensions
    rows: int = 1
    context: int = 512
    bits: int = 4
    group: int = 64
    dtype: mx.Dtype = mx.float16
    prompt: bool = False
    superblocks: Superblocks | None = None  # instead of bits in groups


@dataclass(frozen=True, slots=True)
class Workload:
    """`call` runs our kernels on the device in use, `mlx` MLX's operations; both evaluated.

    minimum: bytes that must be loaded and stored once.
    """

    operation: str  # the module in kernels/
    name: str  # what a model uses it for
    call: Call
    mlx: Call
    minimum: int


@dataclass(frozen=True, slots=True)
class Arrays:
    """Random arrays of the demand's types."""

    demand: Demand
    random: np.random.Generator

    def normal(self, *shape: int, size: float = 1.0) -> mx.array:
        values = self.random.standard_normal(shape, np.float32) * size
        array = mx.array(values).astype(self.demand.dtype)
        mx.eval(array)
        return array

    def weight(self, outputs: int, inputs: int) -> Dense | Quantized:
        """Return a weight of which a row's product is about as large as its input."""
        demand = self.demand
        if demand.bits >= PLAIN:
            return Dense(self.normal(outputs, inputs, size=inputs**-0.5))
        if demand.superblocks is not None:
            return superblocks(outputs, inputs, demand.superblocks)
        few = self.random.integers(0, 1 << 32, VARIETY, np.uint32)
        packed = mx.array(np.resize(few, (outputs, inputs * demand.bits // 32)))
        shape, max_scale = (outputs, inputs // demand.group), 3 / (1 << demand.bits) * inputs**-0.5
        sizes = np.resize(self.random.uniform(MIN_SCALE, 1, VARIETY) * max_scale, shape)
        scales = mx.array(sizes.astype(np.float32)).astype(demand.dtype)
        biases = scales * -((1 << demand.bits) - 1) / 2
        mx.eval(packed, scales, biases)
        return Quantized(packed, scales, biases, demand.group, demand.bits)


def stored_bytes(weight: Dense | Quantized) -> int:
    """Return the bytes of a weight with its scales and biases."""
    if isinstance(weight, Dense):
        return weight.weight.nbytes
    parts = (weight.weight, weight.scales, weight.biases)
    return sum(part.nbytes for part in parts if part is not None)


def decoding(rows: int, context: int) -> Layout:
    """Lay out rows of one token each, the last of `context`, each over pages of its own."""
    count = -(-context // PAGE)
    pages = 1 + np.arange(rows * count, dtype=np.int32).reshape(rows, count)
    last = pages[:, -1] * PAGE + (context - 1) % PAGE
    arrays = [mx.full((rows,), context - 1, mx.int32), mx.array(last.astype(np.int32))]
    arrays += [mx.arange(rows, dtype=mx.int32), mx.array(pages)]
    mx.eval(arrays)
    return Layout(arrays[0], arrays[1], arrays[2], arrays[3], rows, ())
