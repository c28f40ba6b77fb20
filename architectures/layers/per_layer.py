"""What follows a block's two parts: the layer's own embedding of a token, and a factor."""

import math
from dataclasses import dataclass

import mlx.core as mx

from ...kernels.activation import Activation, activate_plain
from ...kernels.embedding import embedding
from ...kernels.weight import Weight, pack
from ..config import ModelConfig, PerLayerConfig
from ..parameters import Parameters
from ..step import StepContext
from .linear import Linear
from .norm import AnyNorm
from .norm import load as load_norm


@dataclass(frozen=True, slots=True)
class Inputs:
    """The layers' own embeddings of a step's tokens, half looked up and half computed."""

    embed: Weight
    projection: Linear
    norm: AnyNorm
    width: int
    size: int  # of the vocabulary; what is beyond it counts as token 0

    @classmethod
    def load(cls, parameters: Parameters, model: ModelConfig, config: PerLayerConfig) -> "Inputs":
        base, width = model.model, model.layers * config.width
        modules = [(f"{base}.per_layer_model_projection", width)]
        return cls(
            pack(parameters.matrix(f"{base}.embed_tokens_per_layer", config.vocab_size, width)),
            Linear.load(parameters, modules, model.hidden_size, bias=False),
            load_norm(parameters, f"{base}.per_layer_projection_norm", config.width, model.norm),
            config.width,
            config.vocab_size,
        )

    def __call__(self, tokens: mx.array, x: mx.array) -> mx.array:
        """(rows, layers, width) of the tokens and their embeddings (rows, hidden_size)."""
        shape = (x.shape[0], -1, self.width)
        tokens = mx.where(tokens < self.size, tokens, 0)
        found = embedding(tokens, self.embed, x.dtype) * math.sqrt(self.width)
        computed = self.projection(x) / math.sqrt(x.shape[1])
        return (self.norm(computed.reshape(shape)) + found.reshape(shape)) * math.sqrt(0.5)


@dataclass(frozen=True, slots=True)
class Gate:
    """Adds what a block's output lets through of the layer's own embedding."""

    layer: int
    gate: Linear
    projection: Linear
    norm: AnyNorm
    activation: Activation

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: PerLayerConfig, layer: int
    ) -> "Gate":
        name, hidden = f"{model.model}.layers.{layer}", model.hidden_size
        into = [(f"{name}.per_layer_input_gate", config.width)]
        back = [(f"{name}.per_layer_projection", hidden)]
        return cls(
            layer,
            Linear.load(parameters, into, hidden, bias=False),
            Linear.load(parameters, back, config.width, bias=False),
            load_norm(parameters, f"{name}.post_per_layer_input_norm", hidden, model.norm),
            config.activation,
        )

    def __call__(self, x: mx.array, context: StepContext) -> mx.array:
        """What is to be added to x."""
        assert context.inputs is not None
        gate = activate_plain(self.gate(x), self.activation)
        return self.norm(self.projection(gate * context.inputs[:, self.layer]))
