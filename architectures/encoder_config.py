"""The config of an encoder, and the module that reads each model_type of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from .config import ConfigError, NormConfig, Rope
from .encoder_families import CLASSIFIES, FAMILIES
from .fields import Fields
from .read import read_quantization
from .storage import Quantization

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
GATES = ("gelu", "gelu_tanh", "silu")


@dataclass(frozen=True, slots=True)
class Names:
    """A checkpoint's names of modules; a layer's are below `layers` and its number.

    `projections` are queries, keys and values, in one module or in three; `up` of a gated layer the
    gate and what it lets through, in one (with `gate_last` the other way round) or in two.
    """

    layers: str
    projections: tuple[str, ...]
    attended: str
    attention_norm: str
    up: tuple[str, ...]
    down: str
    feed_forward_norm: str
    tokens: str = "embeddings.word_embeddings"
    positions: str = "embeddings.position_embeddings"
    types: str = "embeddings.token_type_embeddings"
    embedding_norm: str = "embeddings.LayerNorm"
    distances: str = "encoder.relative_attention_bias"
    final_norm: str | None = None
    gate_last: bool = False


@dataclass(frozen=True, slots=True)
class Positions:
    """Learned positions, from row `first` on; `padding` tokens take theirs and do not count."""

    rows: int
    first: int = 0
    padding: int | None = None


@dataclass(frozen=True, slots=True)
class LayerKind:
    """A kind of layer: its rows see all, or `window` tokens before and after themselves."""

    window: int | None = None
    rope: Rope | None = None


@dataclass(frozen=True, slots=True)
class ClassifierConfig:
    """A classifier: pooled, through `dense`, activated, normalised if there is a norm, `output`."""

    labels: int
    dense: str
    output: str
    activation: Activation = "tanh"
    pooling: Literal["cls", "mean"] = "cls"
    dense_bias: bool = True
    norm: str | None = None


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """All that an encoder's mathematics depends on; `layers` has one entry a layer.

    `pre_norm`: norms stand before attention and feed-forward layer (but not the first), else after
    their sums. `types`: rows of the embeddings of token types, of which `pairs` use the second.
    `buckets`: of distances, whose biases attention adds. Renames and unused as in ModelConfig.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    width: int
    heads: int
    context: int
    layers: tuple[LayerKind, ...]
    norm: NormConfig
    activation: Activation
    names: Names
    quantization: Quantization
    gated: bool = False
    pre_norm: bool = False
    attention_bias: bool = True
    up_bias: bool = True
    down_bias: bool = True
    positions: Positions | None = None
    types: int = 0
    pairs: bool = False
    buckets: int = 0
    classifier: ClassifierConfig | None = None
    renames: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()


def configure(raw: Mapping[str, Any]) -> EncoderConfig:
    """Read a parsed config.json through its family's module; ConfigError where it cannot be."""
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"config.json: model_type is {model_type!r}, which is no encoder; "
            f"encoders are {', '.join(sorted(FAMILIES))}"
        )
    fields = Fields(raw)
    config = import_module(f".{FAMILIES[model_type]}", __package__).configure(fields)
    assert isinstance(config, EncoderConfig)
    fields.leave()
    return config


def classifier(
    fields: Fields, dense: str, output: str, **different: Any
) -> ClassifierConfig | None:
    """Return the classifier, None if there is none; `different` as in ClassifierConfig."""
    value = fields.get("architectures")
    names = value if isinstance(value, list) else []
    if not any(isinstance(name, str) and name.endswith(CLASSIFIES) for name in names):
        return None
    return ClassifierConfig(labels(fields), dense, output, **different)


def labels(fields: Fields) -> int:
    """Return how many labels there are; transformers writes their names unless there are two."""
    names = fields.get("id2label")
    if isinstance(names, dict) and names:
        return len(names)
    return fields.integer("num_labels", 2)


def sizes(fields: Fields, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return what EncoderConfig has of all families; `keys` are the config's names of sizes."""
    hidden, name = fields.integer(keys["hidden"]), keys["heads"]
    heads = fields.integer(name)
    if hidden % heads:
        raise fields.refuse(name, f"a divisor of the hidden size, {hidden}")
    return {
        "model_type": fields.raw["model_type"],
        "vocab_size": fields.integer("vocab_size"),
        "hidden_size": hidden,
        "width": fields.integer(keys["width"]),
        "heads": heads,
        "quantization": read_quantization(fields),
    }


def activation(fields: Fields, name: str, default: str = "gelu") -> Activation:
    return ACTIVATIONS[fields.choice(name, ACTIVATIONS, default)]


def gate(fields: Fields, name: str, default: str = "gelu") -> Activation:
    """Read an activation that gates have a kernel for."""
    known = activation(fields, name, default)
    if known not in GATES:
        raise fields.refuse(name, "one of " + ", ".join(GATES))
    return known
