"""The fields that most families spell alike: sizes, layers' kinds, experts, quantization."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from .config import (
    PRE,
    AttentionConfig,
    BlockConfig,
    BlockNames,
    LatentConfig,
    MixerConfig,
    ModelConfig,
    NormConfig,
    SsmConfig,
)
from .feed_forward_config import Activation, FeedForwardConfig, MlpConfig, MoeConfig
from .fields import Fields
from .rope import longest, read_rope
from .storage import Mode, Quantization, Stored

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu2": "relu2",
}
AFFINE_BITS, AFFINE_GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)
# Group and bits of MLX's floating formats.
FLOATING: dict[str, tuple[int, int]] = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}
FLOATS = ("float16", "bfloat16", "float32")  # of modules that are not quantized
# Lists of modules that are not quantized, as each tensor shows by itself.
SKIPPED = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "skip_modules")
SAVED_AS = {"num_experts": "num_local_experts"}  # by transformers 5, for some families
FULL, SLIDING = "full_attention", "sliding_attention"
# Matrices of a feed-forward layer as Meta's first Llama called them.
META = ((r"\.w1\.", ".gate_proj."), (r"\.w2\.", ".down_proj."), (r"\.w3\.", ".up_proj."))
# Of a model that sees or hears too: where transformers 5 has its text side, and the other ones.
INNER = (r"^model\.language_model\.", "language_model.model.")
SENSES = r"(model\.)?(visual|(vision|audio)_tower|embed_(vision|audio)|multi_modal_projector)\."
LARGEST = 3.4e38  # of float32: above it, a limit is none


def layer_count(fields: Fields) -> int:
    return fields.integer("num_hidden_layers", maximum=10_000)


def attention(
    fields: Fields, head_dim: int = 0, share: float = 1.0, **different: Any
) -> AttentionConfig:
    """Read Llama's attention; `head_dim` if the config says none, `different` as AttentionConfig.

    Without "rope" in `different` it is the config's, of so large a `share` of a head.
    """
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if not head_dim and "head_dim" not in fields and hidden % heads:
        raise fields.refuse("num_attention_heads", f"a divisor of hidden_size, {hidden}")
    kv_heads = fields.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.refuse("num_key_value_heads", f"a divisor of {heads} attention heads")
    dim = fields.integer("head_dim", head_dim or hidden // heads, maximum=4096)
    if dim % 2:
        raise fields.refuse("head_dim", "an even number")
    rope = different.pop("rope") if "rope" in different else read_rope(fields, dim, share=share)
    values = {"scale": dim**-0.5, "rope": rope} | different
    return AttentionConfig(heads, kv_heads, dim, **values)


def biases(fields: Fields, default: bool = False) -> dict[str, bool]:
    """Read whether all of attention's projections have biases, as AttentionConfig has it."""
    biased = fields.flag("attention_bias", default)
    return {"bias": biased, "output_bias": biased}


def mlp(fields: Fields, activation: str = "silu", **different: Any) -> MlpConfig:
    """Read the gated feed-forward layer; `activation` if the config says none."""
    width = fields.integer("intermediate_size")
    return MlpConfig(width, read_activation(fields, activation), **different)


def read_activation(fields: Fields, default: str, name: str = "hidden_act") -> Activation:
    return ACTIVATIONS[fields.choice(name, ACTIVATIONS, default)]


def rms(fields: Fields, default: float = 1e-6, zero_centred: bool = False) -> NormConfig:
    return NormConfig(fields.number("rms_norm_eps", default), zero_centred=zero_centred)


def decoder(
    fields: Fields, blocks: Sequence[BlockConfig], norm: NormConfig, **different: Any
) -> ModelConfig:
    """Return the model of these blocks; `different` as ModelConfig."""
    roped = (AttentionConfig, LatentConfig)
    ropes = [block.mixer.rope for block in blocks if isinstance(block.mixer, roped)]
    context = longest(fields)
    stretched = [rope.factor for rope in ropes if rope is not None and rope.kind == "dynamic"]
    values: dict[str, Any] = {
        "model_type": fields.get("model_type"),
        "vocab_size": fields.integer("vocab_size"),
        "hidden_size": fields.integer("hidden_size"),
        "context": int(context * max(stretched, default=1.0)),
        "tied": fields.flag("tie_word_embeddings", False),
        "quantization": read_quantization(fields),
        "bidirectional": _both_ways(fields, blocks),
    }
    return ModelConfig(blocks=tuple(blocks), norm=norm, **(values | different))


def _both_ways(fields: Fields, blocks: Sequence[BlockConfig]) -> bool:
    """Read whether tokens see later ones too, which is built where all layers see all."""
    if fields.flag("is_causal", True):
        return False
    if not all(_plain(block.mixer) for block in blocks):
        raise fields.refuse("is_causal", "true, but where all layers have plain attention")
    return True


def _plain(mixer: MixerConfig | None) -> bool:
    if not isinstance(mixer, AttentionConfig):
        return False
    return mixer.window is None and mixer.softcap is None and not mixer.sinks


def text_side(fields: Fields, tied: bool) -> dict[str, Any]:
    """Return ModelConfig's fields for the text side of a model that sees or hears too."""
    fields.ignore("vision_config")
    return {
        "model_type": fields.get("model_type"),
        "tied": tied,
        "quantization": read_quantization(fields),
        "model": "language_model.model",
        "head": "language_model.lm_head",
        "renames": (INNER, (r"^lm_head\.", "language_model.lm_head.")),
        "unused": (SENSES,),
    }


def alike(
    fields: Fields, mixer: AttentionConfig, feed_forward: FeedForwardConfig, names: BlockNames = PRE
) -> list[BlockConfig]:
    """Return as many blocks as the config has layers, all the same."""
    return [BlockConfig(mixer, feed_forward, names)] * layer_count(fields)


def read_window(fields: Fields, name: str = "sliding_window", default: int = 0) -> int | None:
    """Read a window; None where it is absent, null, or no shorter than the context."""
    if name in fields.raw and fields.get(name) is None:
        return None
    if name not in fields and not default:
        return None
    window = fields.integer(name, default)
    return None if window >= longest(fields) else window


def layer_kinds(fields: Fields, allowed: Sequence[str], default: Callable[[int], str]) -> list[str]:
    """Read `layer_types`, or `default` of each layer's number where the config has none."""
    layers = layer_count(fields)
    if "layer_types" not in fields:
        return [default(layer) for layer in range(layers)]
    return fields.kinds("layer_types", layers, allowed)


def windowed(fields: Fields, every: int) -> list[str]:
    """Read layers' kinds; by default they have a window, but for each `every`th."""
    usual = (FULL, SLIDING)
    return layer_kinds(fields, usual, lambda layer: SLIDING if (layer + 1) % every else FULL)


def needed_window(fields: Fields) -> int | None:
    """Read a window that may not be null, because without one its layers are not defined."""
    fields.integer("sliding_window")
    return read_window(fields)


def read_windows(
    fields: Fields, slides: Callable[[int, int], bool] = lambda layer, limit: layer >= limit
) -> list[int | None]:
    """Read Qwen's spelling: layer_types says which layers have a window, else `slides`.

    That takes a layer's number and max_window_layers.
    """
    layers = layer_count(fields)
    fields.assume(sliding_window=4096)
    fields.ignore("max_window_layers", "layer_types", "sliding_window")
    if not fields.flag("use_sliding_window", False) or "sliding_window" not in fields:
        return [None] * layers
    window = read_window(fields)
    limit = fields.integer("max_window_layers", 28, minimum=0)
    usual = [SLIDING if slides(layer, limit) else FULL for layer in range(layers)]
    kinds = layer_kinds(fields, (FULL, SLIDING), lambda layer: usual[layer])
    return [None if kind == FULL else window for kind in kinds]


def mixture(
    fields: Fields,
    *,
    count: str = "num_experts",
    counts: int = 0,
    chosen: str = "num_experts_per_tok",
    chosens: int = 0,
    width: str = "moe_intermediate_size",
    widths: int = 0,
    **different: Any,
) -> MoeConfig:
    """Read experts, by the names of their three sizes and the defaults of these (0: none)."""
    if count not in fields:
        count = SAVED_AS.get(count, count)
    experts = fields.integer(count, counts or None, maximum=4096)
    values: dict[str, Any] = {"activation": read_activation(fields, "silu")} | different
    return MoeConfig(
        experts,
        fields.integer(chosen, chosens or None, maximum=experts),
        fields.integer(width, widths or None),
        **values,
    )


def local_experts(fields: Fields, **different: Any) -> MoeConfig:
    """Read experts as Mixtral's config spells their sizes; `different` as in `mixture`."""
    return mixture(fields, count="num_local_experts", width="intermediate_size", **different)


def time_limits(fields: Fields) -> tuple[float, float]:
    """Read the bounds of time steps; infinity is a number to Python, an object to transformers."""
    name, expected = "time_step_limit", "two numbers from 0 on, the least first"
    limits = fields.get(name)
    if limits is None:
        return 0.0, math.inf
    if not isinstance(limits, list) or len(limits) != 2:
        raise fields.refuse(name, expected)
    low, high = (math.inf if each == {"__float__": "Infinity"} else each for each in limits)
    if type(low) not in (int, float) or type(high) not in (int, float) or not 0 <= low <= high:
        raise fields.refuse(name, expected)
    return float(low), math.inf if high > LARGEST else float(high)


def state_space(fields: Fields, *, heads: int, **sizes: Any) -> SsmConfig:
    """Read a state space as Nemotron-H and Mamba 2 spell it; `sizes` are what they do not."""
    groups = fields.integer("n_groups", 8)
    if heads % groups:
        raise fields.refuse("n_groups", f"a divisor of {heads} heads")
    return SsmConfig(
        heads=heads,
        groups=groups,
        norm_groups=groups,
        width=fields.integer("conv_kernel", 4, minimum=2, maximum=8),
        bias=fields.flag("use_bias", False),
        conv_bias=fields.flag("use_conv_bias", True),
        **sizes,
    )


def read_quantization(fields: Fields) -> Quantization:
    """Read MLX's object, which it writes twice, or the one of other tools, with a quant_method.

    It may be within the config of the text side.
    """
    name = "quantization" if fields.get("quantization") else "quantization_config"
    if not fields.get(name):
        inner = "text_config" in fields
        return read_quantization(fields.table("text_config")) if inner else Quantization()
    table = fields.table(name)
    if "quant_method" in table:
        return _foreign(table)
    if "quant_algo" in table:
        raise table.refuse("quant_algo", "a quant_method, fp8 or mxfp4")
    default = (
        _stored(table) if any(key in table for key in ("group_size", "bits", "mode")) else None
    )
    modules: dict[str, Stored | None] = {}
    table.ignore(*SKIPPED)
    for module, value in table.raw.items():
        if isinstance(value, dict):
            modules[module] = _entry(table.table(module))
        elif isinstance(value, bool) or value in FLOATS:
            table.ignore(module)
            modules[module] = default if value is True else None
    return Quantization(default, modules)


def _entry(table: Fields) -> Stored | None:
    """Read a module's entry, in which MLX has defaults; from 16 bits on it is not quantized."""
    if table.integer("bits", 4) >= 16:
        table.ignore(*table.raw)
        return None
    if table.choice("mode", ("affine", *FLOATING), "affine") == "affine":
        table.assume(group_size=64, bits=4)
    return _stored(table)


def _stored(table: Fields) -> Stored:
    mode = cast(Mode, table.choice("mode", ("affine", *FLOATING), "affine"))
    if mode != "affine":
        group, bits = FLOATING[mode]
        table.expect("group_size", group)
        table.expect("bits", bits)
        return Stored(group, bits, mode)
    group, bits = table.integer("group_size"), table.integer("bits")
    if group not in AFFINE_GROUPS:
        raise table.refuse("group_size", "one of " + ", ".join(map(str, AFFINE_GROUPS)))
    if bits not in AFFINE_BITS:
        raise table.refuse("bits", "one of " + ", ".join(map(str, AFFINE_BITS)))
    return Stored(group, bits)


def _foreign(table: Fields) -> Quantization:
    """Read a layout that is used as it is stored: DeepSeek's FP8 and gpt-oss's MXFP4."""
    method = table.choice("quant_method", ("fp8", "mxfp4"), "fp8")
    table.ignore("activation_scheme", "fmt", "scale_fmt", "dequantize", *SKIPPED)
    if method == "mxfp4":
        return Quantization(method="mxfp4")
    if "weight_block_size" in table.raw and "weight_block_size" not in table:
        return Quantization(method="fp8", block=None)
    block = table.get("weight_block_size") or [128, 128]
    if not isinstance(block, list) or len(block) != 2 or not all(type(b) is int for b in block):
        raise table.refuse("weight_block_size", "two whole numbers")
    return Quantization(method="fp8", block=(block[0], block[1]))
