"""Operations as a model of some shape asks for them: our call, MLX's, and the least bytes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

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
    """What is asked: weights of `bits`, and a step of `rows` sequences at `context` tokens each.

    With `prompt`, the rows are one sequence's prompt.
    """

    dimensions: Dimensions
    rows: int = 1
    context: int = 512
    bits: int = 4
    group: int = 64
    dtype: mx.Dtype = mx.float16
    prompt: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """`call` runs our kernels on the device in use, `composed` MLX's operations; both evaluated.

    minimum: bytes that must be loaded and stored once.
    """

    operation: str  # the module in kernels/
    name: str  # what a model uses it for
    call: Call
    composed: Call
    minimum: int
