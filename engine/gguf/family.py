"""A family of models as GGUF files have it: its fields, its tensors, and what was changed."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..checkpoint.weight_files import CheckpointError
from .container import Gguf

# What became of a tensor: rows of rotated pairs side by side, by head; heads of values of all heads
# of keys in turn; a part of it, a third or a half by heads of keys; numbers or a shape changed.
Change = Literal[
    "paired",
    "paired_keys",
    "tiled",
    "tiled_values",
    "tiled_columns",
    "first",
    "second",
    "third",
    "betas",
    "alphas",
    "shifted",
    "decay",
    "flat",
    "convolution",
]

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
# Fields without which numbers would silently be others, which llama.cpp requires too, beside the
# epsilon of norms.
WINDOW, LOGIT_SCALE = "attention.sliding_window", "logit_scale"
REQUIRED = {
    "cohere2": {WINDOW, LOGIT_SCALE},
    "gemma3n": {WINDOW},
    "gemma4": {WINDOW},
    "gpt-oss": {WINDOW},
    "granite": {LOGIT_SCALE},
    "granitemoe": {LOGIT_SCALE},
}
# Modules, as files call them and as layers do; before those of a layer both have its number.
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
NAMES = WHOLE | LAYER
# Tensors that a config says by itself, or that are read into it.
UNUSED = frozenset(("rope_freqs", "rope_factors_long", "rope_factors_short"))


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture: its model_type, its fields and modules beyond those above, its changes.

    `modules` and `changes` go by a module's name in files, without its block, or by a tensor's;
    `parts` are tensors that layers have as several, each of one change. `fixed` are fields that are
    the same for all models; `more` reads others from a file. `layers` is the module of the layers.
    """

    model_type: str
    fields: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    more: Callable[[Gguf], Mapping[str, Any]] = lambda _: {}
    parts: Mapping[str, Mapping[str, Change]] = field(default_factory=dict)
    layers: str = "model.layers"

    def config(self, gguf: Gguf) -> dict[str, Any]:
        """Return what config.json would say."""
        names = {**FIELDS, **self.fields}
        values = {name: _single(gguf.value(place)) for name, place in names.items() if place}
        said = {name: value for name, value in values.items() if value is not None}
        if "num_experts_per_tok" in names and has(gguf, "ffn_gate_inp.weight"):
            needed(gguf, names["num_experts_per_tok"])
        config = {
            "model_type": self.model_type,
            "vocab_size": gguf.tensor("token_embd.weight").shape[0],
            "tie_word_embeddings": "output.weight" not in gguf.tensors,
            **self.fixed,
            **said,
            "num_hidden_layers": layer_count(gguf),
            **scaling(gguf),
            **self.more(gguf),
        }
        _require(gguf, names, config)
        return config

    def sources(self, name: str) -> list[tuple[str, tuple[Change, ...]]] | None:
        """Return the names that layers have for a tensor, and what became of it; None if unknown.

        `name` is a file's, without its block.
        """
        if name in self.parts:
            return [(part, (change,)) for part, change in self.parts[name].items()]
        known = self._renamed(name)
        return None if known is None else [(known, self._changes(name))]

    def _renamed(self, name: str) -> str | None:
        if name in self.modules:
            return self.modules[name]
        module, _, part = name.rpartition(".")
        known = self.modules.get(module, NAMES.get(module))
        return known and f"{known}.{part}"

    def _changes(self, name: str) -> tuple[Change, ...]:
        module = name.rpartition(".")[0]
        known = self.changes.get(name, self.changes.get(module))
        if known is None and module.endswith("norm"):
            known = self.changes.get("norm")
        return known or ()


def _require(gguf: Gguf, names: Mapping[str, str], config: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a field is not there that a model is nothing without."""
    required: Collection[str] = REQUIRED.get(gguf.architecture, ())
    known = {place for name, place in names.items() if config.get(name) is not None}
    for place in names.values():
        if (place.endswith("_epsilon") or place in required) and place not in known:
            raise _lacking(gguf, place)


def layer_count(gguf: Gguf) -> int:
    """Return how many layers there are, without those that predict further tokens."""
    count = gguf.value("block_count") or 0
    if count > len(gguf.tensors):
        raise CheckpointError(f"{gguf.path} has too few tensors for {count} layers; fetch it again")
    return int(count) - int(gguf.value("nextn_predict_layers") or 0)


def by_layer(gguf: Gguf, name: str) -> list[Any]:
    """Return a list with a value for each layer. Raises CheckpointError if it has too few."""
    values = gguf.value(name)
    if not isinstance(values, list) or len(values) < layer_count(gguf):
        raise _lacking(gguf, f"{name} for each layer" if values else name)
    return values


def key_heads(gguf: Gguf) -> int:
    """Return how many heads of keys there are in layers that have any."""
    heads = _single(gguf.value("attention.head_count_kv"))
    if isinstance(heads, list):
        raise CheckpointError(f"{gguf.path} has layers of unlike heads, which is not built")
    return int(heads or needed(gguf, "attention.head_count"))


def needed(gguf: Gguf, name: str) -> Any:
    """Return the one number, not 0, that is said below the architecture's name.

    Raises CheckpointError if there is none.
    """
    value = _single(gguf.value(name))
    if not value or isinstance(value, list):
        raise _lacking(gguf, name)
    return value


def _lacking(gguf: Gguf, name: str) -> CheckpointError:
    return CheckpointError(
        f"{gguf.path} lacks the field {gguf.architecture}.{name}; fetch it again"
    )


def has(gguf: Gguf, name: str) -> bool:
    """Return whether any layer has the tensor."""
    return any(f"blk.{layer}.{name}" in gguf.tensors for layer in range(layer_count(gguf)))


def layers_with(gguf: Gguf, name: str) -> list[bool]:
    """Return for each layer whether it has the tensor."""
    return [f"blk.{layer}.{name}" in gguf.tensors for layer in range(layer_count(gguf))]


def _single(value: Any) -> Any:
    """Return the one value of layers that have any; a list where they differ."""
    some = {each for each in value if each} if isinstance(value, list) else set()
    return some.pop() if len(some) == 1 else value


def scaling(gguf: Gguf) -> dict[str, Any]:
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
    factor = gguf.value("rope.scaling.factor") or gguf.value("rope.scale_linear")
    if kind == "none" or not factor or factor == 1:
        return {}
    table = {
        "rope_type": kind or "linear",
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


# What a file may be that is no model: by its type, or by its architecture in older ones.
PARTS = {
    "adapter": "an adapter for a model, which is not applied here",
    "mmproj": "a model's eyes or ears, which are not used here",
    "clip": "a model's eyes or ears, which are not used here",
    "imatrix": "what was measured to quantize a model",
}


def require_model(gguf: Gguf) -> None:
    """Raise CheckpointError where a file is only what belongs to a model."""
    for kind in (gguf.metadata.get("general.type"), gguf.architecture):
        if isinstance(kind, str) and kind in PARTS:
            raise CheckpointError(f"{gguf.path} is {PARTS[kind]}; give the file of the model")
