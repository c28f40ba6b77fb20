"""The cost of a token: the bytes it reads of a checkpoint, and its arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from bessemer.bench.models.shapes import kv_values
from bessemer.engine.checkpoint.checkpoint import open_checkpoint

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "U8": 1, "I8": 1}
KV_BYTES = 2  # of a number in a 16-bit cache, the least that any contestant keeps here
EXPERTS = ("switch_mlp.", ".experts.")


@dataclass(frozen=True, slots=True)
class ModelCost:
    """The cost of one token without context, and of one more token of context."""

    bytes: int  # of all weights
    shared: float  # bytes that every token reads
    experts: float  # bytes of all experts together
    chosen: float  # the share of experts that a token chooses
    flops: float
    kv_bytes: float  # of each token of context
    parameters: int
    prompt_flops: float  # of a prompt's token: all but the head

    @property
    def read(self) -> float:
        return self.read_at(0)

    def read_at(self, context: float, streams: int = 1) -> float:
        """Return the bytes that a step of so many streams reads: weights once, caches each.

        Experts count that at least one stream chooses, if all are chosen equally often.
        """
        touched = self.experts * (1 - (1 - self.chosen) ** streams)
        return self.shared + touched + streams * context * self.kv_bytes


def cost(folder: Path) -> ModelCost:
    checkpoint = open_checkpoint(folder)
    config = checkpoint.config
    tied = bool(config.get("tie_word_embeddings"))
    chosen = _chosen(config)
    everything = parameters = 0
    shared = experts = flops = 0.0
    for name, header in checkpoint.tensors.items():
        stored = prod(header.shape) * SIZES.get(header.dtype, 4)
        size = stored if header.source is None else header.source.bytes
        values = _values(config, name, header.dtype, prod(header.shape))
        everything += size
        parameters += values
        if any(part in name for part in EXPERTS):
            experts += size
            flops += 2 * values * chosen
        elif tied or "embed_tokens" not in name:
            shared += size
            flops += 2 * values
    cached = float(kv_values(config) * KV_BYTES)
    head = 2.0 * config["vocab_size"] * config["hidden_size"]
    return ModelCost(
        everything, shared, experts, chosen, flops, cached, parameters, prompt_flops=flops - head
    )


def _chosen(config: Mapping[str, Any]) -> float:
    count = config.get("num_experts") or config.get("n_routed_experts") or 1
    return float(config.get("num_experts_per_tok", count) / count)


def _values(config: Mapping[str, Any], name: str, dtype: str, stored: int) -> int:
    """Count the weights that an array holds: packed ones by their bits, scales and biases none."""
    if dtype == "U32":
        quantization = config.get("quantization") or {}
        module = quantization.get(name.removesuffix(".weight"))
        bits = module["bits"] if isinstance(module, dict) else quantization.get("bits", 32)
        return stored * 32 // int(bits)
    return 0 if name.endswith((".scales", ".biases")) else stored
