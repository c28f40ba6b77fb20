"""Published model shapes, and the tensors of a config.json, in MLX's and GGUF's names."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from bessemer.bench.compare.contest import Unavailable

Kind = Literal["matrix", "embedding", "router", "norm", "bias"]
FILE = Path(__file__).with_name("shapes.toml")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One weight by module name; `share` is the part of it that generating a token reads."""

    name: str
    gguf: str
    shape: tuple[int, ...]
    kind: Kind = "matrix"
    share: float = 1.0

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model's config.json without its weights, perhaps with fewer layers than published."""

    name: str
    config: Mapping[str, Any]
    published_layers: int

    @property
    def layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def mark(self) -> str:
        """The remark that every figure of a scaled-down model bears."""
        scaled = self.layers != self.published_layers
        return f"scaled: {self.layers} of {self.published_layers} layers" if scaled else ""

    @property
    def parameters(self) -> int:
        return sum(tensor.size for tensor in tensors(self.config))

    def scaled(self, layers: int) -> "ModelShape":
        if not 1 <= layers <= self.published_layers:
            raise Unavailable(
                f"{self.name} has {self.published_layers} layers, so --layers cannot be {layers}"
            )
        return replace(self, config={**self.config, "num_hidden_layers": layers})


@cache
def published() -> Mapping[str, dict[str, Any]]:
    return MappingProxyType(tomllib.loads(FILE.read_text(encoding="utf-8")))


def shape(name: str) -> ModelShape:
    """Return a published shape. Raises Unavailable."""
    row = published().get(name)
    if row is None:
        raise Unavailable(f"no shape is called {name!r}; there are {', '.join(published())}")
    return ModelShape(name, row["config"], row["config"]["num_hidden_layers"])


def head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def kv_values(config: Mapping[str, Any]) -> int:
    """Count the numbers that a cache holds of one token, over all layers."""
    layers = int(config["num_hidden_layers"])
    if "kv_lora_rank" in config:
        return layers * int(config["kv_lora_rank"] + config["qk_rope_head_dim"])
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    return layers * 2 * heads * head_dim(config)


def tensors(config: Mapping[str, Any]) -> Iterator[TensorSpec]:
    """Yield a model's tensors in the order of a file: embedding, layers, final norm, head."""
    vocabulary, hidden = config["vocab_size"], config["hidden_size"]
    tied = bool(config.get("tie_word_embeddings"))
    embedding = (vocabulary, hidden)
    share = 1.0 if tied else 0.0
    yield TensorSpec("model.embed_tokens", "token_embd", embedding, "embedding", share)
    for layer in range(config["num_hidden_layers"]):
        for tensor in _layer(config, layer):
            name, gguf = f"model.layers.{layer}.{tensor.name}", f"blk.{layer}.{tensor.gguf}"
            yield replace(tensor, name=name, gguf=gguf)
    yield from _norm("model.norm", "output_norm", config)
    if not tied:
        yield TensorSpec("lm_head", "output", embedding)


def _layer(config: Mapping[str, Any], layer: int) -> Iterator[TensorSpec]:
    hidden, kind = config["hidden_size"], config["model_type"]
    yield from _norm("input_layernorm", "attn_norm", config)
    yield from _latent_attention(config) if "kv_lora_rank" in config else _attention(config)
    if kind == "gemma2":
        yield from _norm("post_attention_layernorm", "post_attention_norm", config)
        yield from _norm("pre_feedforward_layernorm", "ffn_norm", config)
        yield from _norm("post_feedforward_layernorm", "post_ffw_norm", config)
    else:
        yield from _norm("post_attention_layernorm", "ffn_norm", config)
    if kind == "phi3":
        width = config["intermediate_size"]
        yield TensorSpec("mlp.gate_up_proj", "ffn_up", (2 * width, hidden))
        yield TensorSpec("mlp.down_proj", "ffn_down", (hidden, width))
    elif kind == "starcoder2":
        width = config["intermediate_size"]
        yield from _biased("mlp.c_fc", "ffn_up", (width, hidden))
        yield from _biased("mlp.c_proj", "ffn_down", (hidden, width))
    elif kind == "qwen3_moe":
        yield from _experts(config, config["num_experts"])
    elif layer >= config.get("first_k_dense_replace", config["num_hidden_layers"]):
        yield from _experts(config, config["n_routed_experts"])
        shared = config["n_shared_experts"] * config["moe_intermediate_size"]
        yield from _mlp(hidden, shared, "mlp.shared_experts.", "_shexp")
    else:
        yield from _mlp(hidden, config["intermediate_size"], "mlp.", "")


def _norm(name: str, gguf: str, config: Mapping[str, Any]) -> Iterator[TensorSpec]:
    size = (config["hidden_size"],)
    yield TensorSpec(name, gguf, size, "norm")
    if config["model_type"] == "starcoder2":
        yield TensorSpec(name, gguf, size, "bias")


def _biased(name: str, gguf: str, shape: tuple[int, int]) -> Iterator[TensorSpec]:
    yield TensorSpec(name, gguf, shape)
    yield TensorSpec(name, gguf, shape[:1], "bias")


def _attention(config: Mapping[str, Any]) -> Iterator[TensorSpec]:
    hidden, size = config["hidden_size"], head_dim(config)
    rows = config["num_attention_heads"] * size
    shared = config.get("num_key_value_heads", config["num_attention_heads"]) * size
    if config["model_type"] == "phi3":
        yield TensorSpec("self_attn.qkv_proj", "attn_qkv", (rows + 2 * shared, hidden))
        yield TensorSpec("self_attn.o_proj", "attn_output", (hidden, rows))
        return
    biased = config["model_type"] in ("qwen2", "starcoder2")
    for letter, height in (("q", rows), ("k", shared), ("v", shared)):
        yield TensorSpec(f"self_attn.{letter}_proj", f"attn_{letter}", (height, hidden))
        if biased:
            yield TensorSpec(f"self_attn.{letter}_proj", f"attn_{letter}", (height,), "bias")
    yield TensorSpec("self_attn.o_proj", "attn_output", (hidden, rows))
    if config["model_type"] == "starcoder2":
        yield TensorSpec("self_attn.o_proj", "attn_output", (hidden,), "bias")
    if config["model_type"].startswith("qwen3"):
        yield TensorSpec("self_attn.q_norm", "attn_q_norm", (size,), "norm")
        yield TensorSpec("self_attn.k_norm", "attn_k_norm", (size,), "norm")


def _latent_attention(config: Mapping[str, Any]) -> Iterator[TensorSpec]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    rank, rope = config["kv_lora_rank"], config["qk_rope_head_dim"]
    plain, value = config["qk_nope_head_dim"], config["v_head_dim"]
    yield TensorSpec("self_attn.q_proj", "attn_q", (heads * (plain + rope), hidden))
    yield TensorSpec("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", (rank + rope, hidden))
    yield TensorSpec("self_attn.kv_a_layernorm", "attn_kv_a_norm", (rank,), "norm")
    yield TensorSpec("self_attn.kv_b_proj", "attn_kv_b", (heads * (plain + value), rank))
    yield TensorSpec("self_attn.o_proj", "attn_output", (hidden, heads * value))


def _mlp(hidden: int, width: int, prefix: str, suffix: str) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{prefix}gate_proj", f"ffn_gate{suffix}", (width, hidden))
    yield TensorSpec(f"{prefix}up_proj", f"ffn_up{suffix}", (width, hidden))
    yield TensorSpec(f"{prefix}down_proj", f"ffn_down{suffix}", (hidden, width))


def _experts(config: Mapping[str, Any], count: int) -> Iterator[TensorSpec]:
    hidden, width = config["hidden_size"], config["moe_intermediate_size"]
    share = config["num_experts_per_tok"] / count
    yield TensorSpec("mlp.gate", "ffn_gate_inp", (count, hidden), "router")
    for tensor in _mlp(hidden, width, "mlp.switch_mlp.", "_exps"):
        yield replace(tensor, shape=(count, *tensor.shape), share=share)
