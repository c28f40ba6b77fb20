"""What llama.cpp's converter makes of each family, and so what is undone: a row a family.

The facts are those of its conversion/*.py and gguf-py/gguf/tensor_mapping.py, of the release that
llama-cpp-python 0.3.36 has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..weight_files import CheckpointError
from .container import Gguf

# What became of a tensor: rows in another order so that rotated pairs lie side by side, by head; 1
# added to a norm's weight.
Change = Literal["paired", "paired_keys", "shifted"]

# Fields of a config.json and where a file has them, below its architecture's name.
FIELDS = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
EXPERTS = {
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
# Modules, as files call them and as layers do; "blk.N." is before those of a layer.
WHOLE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.switch_mlp.gate_proj",
    "ffn_up_exps": "mlp.switch_mlp.up_proj",
    "ffn_down_exps": "mlp.switch_mlp.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
# Norms on both sides of each part.
SANDWICH = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
AFTER = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
# Tensors that a config says by itself, or that are read into it.
UNUSED = frozenset(("rope_freqs", "rope_factors_long", "rope_factors_short"))


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture: its model_type, its fields and modules beyond those above, its changes.

    `fixed` are fields that are the same for all models; `more` reads others from a file.
    """

    model_type: str
    fields: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Change] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    more: Callable[[Gguf], Mapping[str, Any]] = lambda _: {}

    def config(self, gguf: Gguf) -> dict[str, Any]:
        """Return what config.json would say."""
        names = {**FIELDS, **self.fields}
        values = {name: gguf.value(place) for name, place in names.items() if place}
        said = {name: value for name, value in values.items() if value is not None}
        return {
            "model_type": self.model_type,
            "vocab_size": gguf.tensor("token_embd.weight").shape[0],
            "tie_word_embeddings": "output.weight" not in gguf.tensors,
            **self.fixed,
            **said,
            **_scaling(gguf),
            **self.more(gguf),
        }

    def module(self, name: str) -> str | None:
        """Return the name that layers have for a module, without its block; None if unknown."""
        return self.modules.get(name, LAYER.get(name))

    def change(self, name: str) -> Change | None:
        """Return what became of a module's tensors; `name` is a file's, without its block."""
        if name.endswith("norm") and "norm" in self.changes:
            return self.changes["norm"]
        return self.changes.get(name)


def _scaling(gguf: Gguf) -> dict[str, Any]:
    """Return how positions are stretched."""
    kind, original = (
        gguf.value("rope.scaling.type"),
        gguf.value("rope.scaling.original_context_length"),
    )
    if "rope_factors_long.weight" in gguf.tensors:
        long, short = (gguf.numbers(f"rope_factors_{each}.weight") for each in ("long", "short"))
        return _longrope(long, short, original, gguf.value("rope.scaling.attn_factor"))
    if "rope_freqs.weight" in gguf.tensors:  # Llama 3's, of which only the result is kept
        factors = gguf.numbers("rope_freqs.weight")
        return _longrope(factors, factors, gguf.value("context_length"), 1.0)
    factor = gguf.value("rope.scaling.factor")
    if kind in (None, "none") or not factor or factor == 1:
        return {}
    table = {
        "rope_type": kind,
        "factor": factor,
        "original_max_position_embeddings": original,
        "attention_factor": gguf.value("rope.scaling.yarn_attn_factor"),
        "beta_fast": gguf.value("rope.scaling.yarn_beta_fast"),
        "beta_slow": gguf.value("rope.scaling.yarn_beta_slow"),
    }
    return {"rope_scaling": {name: value for name, value in table.items() if value is not None}}


def _longrope(
    long: list[float], short: list[float], original: int | None, attention: float | None
) -> dict[str, Any]:
    table = {
        "rope_type": "longrope",
        "long_factor": long,
        "short_factor": short,
        "original_max_position_embeddings": original,
        "attention_factor": attention,
    }
    return {"rope_scaling": {name: value for name, value in table.items() if value is not None}}


def _llama(gguf: Gguf) -> dict[str, Any]:
    """Read Llama, and Mixtral, which has the same architecture's name."""
    if gguf.value("expert_count"):
        return {"model_type": "mixtral"}
    return {
        "attention_bias": "blk.0.attn_output.bias" in gguf.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in gguf.tensors,
    }


def _granite(gguf: Gguf) -> dict[str, Any]:
    return {"attention_bias": "blk.0.attn_q.bias" in gguf.tensors}


def _biased(gguf: Gguf) -> dict[str, Any]:
    return {"attention_bias": "blk.0.attn_q.bias" in gguf.tensors}


def _gemma2(gguf: Gguf) -> dict[str, Any]:
    """Return the scale of scores: that of 27 B follows from how many heads there are."""
    heads, size = gguf.value("attention.head_count"), gguf.value("embedding_length")
    wide = gguf.value("block_count") == 46
    return {"query_pre_attn_scalar": size // heads if wide else gguf.value("attention.key_length")}


def _gemma3(gguf: Gguf) -> dict[str, Any]:
    heads, size = gguf.value("attention.head_count"), gguf.value("embedding_length")
    wide = gguf.value("block_count") == 62
    scalar = size // heads if wide else gguf.value("attention.key_length")
    local = gguf.value("rope.freq_base_swa")
    return {"query_pre_attn_scalar": scalar} | ({"rope_local_base_freq": local} if local else {})


def _phi3(gguf: Gguf) -> dict[str, Any]:
    heads, size = gguf.value("attention.head_count"), gguf.value("embedding_length")
    rotated, window = gguf.value("rope.dimension_count"), gguf.value("attention.sliding_window")
    return {
        "partial_rotary_factor": rotated * heads / size,
        "original_max_position_embeddings": gguf.value("rope.scaling.original_context_length"),
        "sliding_window": window or None,
    }


PAIRED: Mapping[str, Change] = {"attn_q": "paired", "attn_k": "paired_keys"}
SHIFTED: Mapping[str, Change] = {"norm": "shifted"}
QK = {"use_qk_norm": True}
FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        "llama",
        {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"},
        {
            "ffn_gate_inp": "block_sparse_moe.gate",
            "ffn_gate_exps": "block_sparse_moe.switch_mlp.gate_proj",
            "ffn_up_exps": "block_sparse_moe.switch_mlp.up_proj",
            "ffn_down_exps": "block_sparse_moe.switch_mlp.down_proj",
        },
        PAIRED,
        more=_llama,
    ),
    "granite": Family(
        "granite",
        {
            "attention_multiplier": "attention.scale",
            "embedding_multiplier": "embedding_scale",
            "residual_multiplier": "residual_scale",
            "logits_scaling": "logit_scale",
        },
        changes=PAIRED,
        more=_granite,
    ),
    "smollm3": Family("smollm3", changes=PAIRED, more=_biased),
    "qwen2": Family("qwen2"),
    "qwen2moe": Family(
        "qwen2_moe",
        EXPERTS | {"shared_expert_intermediate_size": "expert_shared_feed_forward_length"},
    ),
    "qwen3": Family("qwen3", more=_biased),
    "qwen3moe": Family("qwen3_moe", EXPERTS, fixed={"norm_topk_prob": True}, more=_biased),
    "gemma": Family("gemma", changes=SHIFTED, fixed={"hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": Family(
        "gemma2",
        {
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
            "sliding_window": "attention.sliding_window",
        },
        SANDWICH,
        SHIFTED,
        more=_gemma2,
    ),
    "gemma3": Family(
        "gemma3_text",
        {
            "final_logit_softcapping": "final_logit_softcapping",
            "sliding_window": "attention.sliding_window",
        },
        SANDWICH,
        SHIFTED,
        more=_gemma3,
    ),
    "phi3": Family("phi3", {"head_dim": ""}, {"ffn_up": "mlp.gate_up_proj"}, more=_phi3),
    "olmo2": Family("olmo2", modules=AFTER, more=_biased),
}


def family(gguf: Gguf) -> Family:
    """Return a file's family. Raises CheckpointError for one that is not known here."""
    if gguf.architecture not in FAMILIES:
        raise CheckpointError(
            f"{gguf.path} has the architecture {gguf.architecture!r}, and GGUF files of "
            f"{', '.join(FAMILIES)} are read; give the directory of the model that it was made from"
        )
    return FAMILIES[gguf.architecture]
