"""Each layer's own embedding of a token, which is added to what the layer's block gives."""

import math
from dataclasses import dataclass

import mlx.core as mx

from ...kernels.linear.activation import Activation, activate_plain
from ...kernels.linear.embedding import embedding
from ...kernels.linear.weight import Weight, pack
from ..config import ModelConfig, PerLayerConfig
from ..parameters import Parameters
from ..step import StepContext
from .linear import Linear
from .norm import AnyNorm
from .norm import load as load_norm


@dataclass(frozen=True, slots=True)
class PerLayerInputs:
    """The layers' own embeddings of a step's tokens, half looked up and half computed."""

    embed: Weight
    projection: Linear
    norm: AnyNorm
    width: int
    size: int  # of the vocabulary; what is beyond it counts as token 0

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: PerLayerConfig
    ) -> "PerLayerInputs":
        base, width = model.model, model.layers * config.width
        module = f"{base}.per_layer_model_projection"
        return cls(
            pack(parameters.matrix(f"{base}.embed_tokens_per_layer", config.vocab_size, width)),
            Linear.one(parameters, module, width, model.hidden_size),
            load_norm(parameters, f"{base}.per_layer_projection_norm", config.width, model.norm),
            config.width,
            config.vocab_size,
        )

    def __call__(self, tokens: mx.array, x: mx.array) -> mx.array:
        """Return (rows, layers, width) of the tokens and their embeddings (rows, hidden_size)."""
        shape = (x.shape[0], -1, self.width)
        tokens = mx.where(tokens < self.size, tokens, 0)
        looked_up = embedding(tokens, self.embed, x.dtype) * math.sqrt(self.width)
        computed = self.projection(x) / math.sqrt(x.shape[1])
        return (self.norm(computed.reshape(shape)) + looked_up.reshape(shape)) * math.sqrt(0.5)


@dataclass(frozen=True, slots=True)
class PerLayerGate:
    """The gate by which a block's output lets through the layer's own embedding."""

    layer: int
    gate: Linear
    projection: Linear
    norm: AnyNorm
    activation: Activation

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: PerLayerConfig, layer: int
    ) -> "PerLayerGate":
        name, hidden = f"{model.model}.layers.{layer}", model.hidden_size
        return cls(
            layer,
            Linear.one(parameters, f"{name}.per_layer_input_gate", config.width, hidden),
            Linear.one(parameters, f"{name}.per_layer_projection", hidden, config.width),
            load_norm(parameters, f"{name}.post_per_layer_input_norm", hidden, model.norm),
            config.activation,
        )

    def __call__(self, x: mx.array, step: StepContext) -> mx.array:
        """Return what is to be added to x."""
        assert step.inputs is not None
        gate = activate_plain(self.gate(x), self.activation)
        return self.norm(self.projection(gate * step.inputs[:, self.layer]))
