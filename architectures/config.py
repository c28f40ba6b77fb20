"""A config.json, however spelt, as one frozen ModelConfig; what is not understood is refused."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ROPE_KINDS = ("default", "linear", "llama3", "yarn")
BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)


class ConfigError(ValueError):
    """A config.json that this version cannot follow; the message names the field and its value."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions; what `kind` does not use keeps its default."""

    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    original_context: int = 0
    low: float = 1.0
    high: float = 4.0
    fast: float = 32.0
    slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Affine:
    """One module's quantization, in the layout of MLX."""

    group: int
    bits: int


@dataclass(frozen=True, slots=True)
class Quantization:
    """`modules` holds the exceptions by module name; None there means not quantized."""

    default: Affine | None = None
    modules: Mapping[str, Affine | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Experts in place of the feed-forward layer; `layers` says where."""

    count: int
    per_token: int
    width: int
    normalise: bool  # the weights of a token's experts add up to 1
    layers: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that the mathematics of a model depends on; `windows` has one entry a layer."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    context: int
    tied: bool
    rope: Rope
    quantization: Quantization
    windows: tuple[int | None, ...]
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    experts: Mixture | None = None


class Fields:
    """Typed reading of a JSON object; an absent or null field gives the default, if any."""

    def __init__(self, raw: Mapping[str, Any], within: str = "") -> None:
        self.raw = raw
        self.within = within

    def __contains__(self, name: str) -> bool:
        return self.raw.get(name) is not None

    def refuse(self, name: str, expected: str) -> ConfigError:
        if self.raw.get(name) is None:
            return ConfigError(f"config.json: {self.within}{name} is missing, expected {expected}")
        found = repr(self.raw[name])
        found = found if len(found) <= 80 else found[:77] + "..."
        return ConfigError(f"config.json: {self.within}{name} is {found}, expected {expected}")

    def integer(
        self, name: str, default: int | None = None, least: int = 1, most: int = 2**31 - 1
    ) -> int:
        value = self.raw.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refuse(name, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.raw.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(name, "a positive number")
        if not 0 < value < 1e30:
            raise self.refuse(name, "a positive number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def choice(self, name: str, allowed: Iterable[str], default: str) -> str:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in allowed:
            raise self.refuse(name, "one of " + ", ".join(allowed))
        return value

    def table(self, name: str) -> "Fields":
        value = self.raw.get(name)
        if value is None:
            return Fields({}, f"{name}.")
        if not isinstance(value, dict):
            raise self.refuse(name, "an object")
        return Fields(value, f"{self.within}{name}.")


def read_config(fields: Fields, **different: Any) -> ModelConfig:
    """What Llama and its relatives spell alike; `different` is what a family settles otherwise."""
    fields.choice("hidden_act", ("silu", "swish"), "silu")
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if "head_dim" not in different and "head_dim" not in fields and hidden % heads:
        raise fields.refuse("num_attention_heads", f"a divisor of hidden_size, {hidden}")
    layers = layer_count(fields)
    values: dict[str, Any] = {
        "model_type": fields.raw["model_type"],
        "vocab_size": fields.integer("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": fields.integer("intermediate_size"),
        "layers": layers,
        "heads": heads,
        "kv_heads": fields.integer("num_key_value_heads", heads),
        "head_dim": fields.integer("head_dim", hidden // heads, most=4096),
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "context": fields.integer("max_position_embeddings", 2048),
        "tied": fields.flag("tie_word_embeddings", False),
        "rope": read_rope(fields),
        "quantization": read_quantization(fields),
        "windows": (None,) * layers,
    }
    config = ModelConfig(**(values | different))
    if config.heads % config.kv_heads:
        raise fields.refuse("num_key_value_heads", f"a divisor of {config.heads} attention heads")
    if config.head_dim % 2:
        raise ConfigError(f"config.json: head_dim is {config.head_dim}, expected an even number")
    return config


def layer_count(fields: Fields) -> int:
    return fields.integer("num_hidden_layers", most=10_000)


def read_rope(fields: Fields) -> Rope:
    """transformers 5 keeps all in rope_parameters; 4 has rope_theta beside rope_scaling."""
    scaling = fields.table("rope_scaling" if "rope_scaling" in fields else "rope_parameters")
    if any(isinstance(value, dict) for value in scaling.raw.values()):
        raise fields.refuse(scaling.within.rstrip("."), "one set of values for all layers")
    if scaling.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0)) != 1:
        raise scaling.refuse("partial_rotary_factor", "1")
    theta = scaling.number("rope_theta", fields.number("rope_theta", 10_000.0))
    if theta <= 1:
        raise (scaling if "rope_theta" in scaling else fields).refuse("rope_theta", "more than 1")
    kind = scaling.choice(
        "rope_type" if "rope_type" in scaling else "type", ROPE_KINDS, ROPE_KINDS[0]
    )
    return ROPE_READERS[kind](fields, scaling, theta)


def read_windows(fields: Fields) -> tuple[int | None, ...]:
    """Qwen's spelling: the first max_window_layers see all, unless layer_types lists them."""
    layers = layer_count(fields)
    if not fields.flag("use_sliding_window", False) or "sliding_window" not in fields:
        return (None,) * layers
    window = fields.integer("sliding_window")
    if "layer_types" not in fields:
        full = fields.integer("max_window_layers", 28, least=0)
        return tuple(None if layer < full else window for layer in range(layers))
    kinds = fields.raw["layer_types"]
    widths = {"full_attention": None, "sliding_attention": window}
    known = isinstance(kinds, list) and all(kind in list(widths) for kind in kinds)
    if not known or len(kinds) != layers:
        raise fields.refuse("layer_types", f"{layers} of " + " or ".join(widths))
    return tuple(widths[kind] for kind in kinds)


def read_quantization(fields: Fields) -> Quantization:
    """MLX writes the same object twice; other tools' quantization_config has a quant_method."""
    name = "quantization" if "quantization" in fields else "quantization_config"
    if name not in fields:
        return Quantization()
    found = fields.table(name)
    if "quant_method" in found:
        raise found.refuse("quant_method", "MLX affine quantization")
    default = _affine(found)
    modules: dict[str, Affine | None] = {}
    for module, value in found.raw.items():
        if isinstance(value, dict):
            modules[module] = _affine(found.table(module))
        elif isinstance(value, bool):
            modules[module] = default if value else None
    return Quantization(default, modules)


def _affine(found: Fields) -> Affine:
    found.choice("mode", ("affine",), "affine")
    group, bits = found.integer("group_size"), found.integer("bits")
    if group not in GROUPS:
        raise found.refuse("group_size", "one of " + ", ".join(map(str, GROUPS)))
    if bits not in BITS:
        raise found.refuse("bits", "one of " + ", ".join(map(str, BITS)))
    return Affine(group, bits)


def _original_context(fields: Fields, scaling: Fields) -> int:
    """Where transformers looks for it, in its order."""
    name = "original_max_position_embeddings"
    context = fields.integer("max_position_embeddings", 2048)
    return fields.integer(name, scaling.integer(name, context))


def _llama3(fields: Fields, scaling: Fields, theta: float) -> Rope:
    low, high = scaling.number("low_freq_factor"), scaling.number("high_freq_factor")
    if high <= low:
        raise scaling.refuse("high_freq_factor", f"more than low_freq_factor, {low}")
    return Rope(
        theta=theta,
        kind="llama3",
        factor=scaling.number("factor"),
        original_context=_original_context(fields, scaling),
        low=low,
        high=high,
    )


def _yarn(fields: Fields, scaling: Fields, theta: float) -> Rope:
    original = _original_context(fields, scaling)
    factor = scaling.number("factor", fields.integer("max_position_embeddings", 2048) / original)
    attention = _magnitude(factor, 1.0)
    if "mscale" in scaling and "mscale_all_dim" in scaling:
        attention = _magnitude(factor, scaling.number("mscale"))
        attention /= _magnitude(factor, scaling.number("mscale_all_dim"))
    return Rope(
        theta=theta,
        kind="yarn",
        factor=factor,
        original_context=original,
        fast=scaling.number("beta_fast", 32.0),
        slow=scaling.number("beta_slow", 1.0),
        truncate=scaling.flag("truncate", True),
        attention_factor=scaling.number("attention_factor", attention),
    )


def _magnitude(factor: float, scale: float) -> float:
    """Section 3.4 of the YaRN paper (arXiv 2309.00071)."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


ROPE_READERS = {
    "default": lambda fields, scaling, theta: Rope(theta),
    "linear": lambda fields, scaling, theta: Rope(theta, "linear", scaling.number("factor")),
    "llama3": _llama3,
    "yarn": _yarn,
}
