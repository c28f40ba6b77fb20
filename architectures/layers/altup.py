"""Gemma 3n's blocks: of several streams one is computed, the others follow (arXiv 2301.13310)."""

from dataclasses import dataclass

import mlx.core as mx

from ..config import AltUpConfig, ModelConfig, PerLayerConfig, SharingConfig
from ..feed_forward_config import MlpConfig
from ..parameters import Parameters
from ..step import Cache, StepContext
from .linear import Linear
from .mlp import MLP, AnyMLP
from .norm import AnyNorm
from .norm import load as load_norm
from .per_layer import PerLayerGate
from .sharing_attention import SharingAttention

MIN_MEAN_SQUARE = 1e-5  # of what is scaled


@dataclass(frozen=True, slots=True)
class Streams:
    """The projections from a token's embedding to its streams, and back to one hidden state."""

    into: Linear  # all streams but the first
    back: tuple[Linear, ...]

    @classmethod
    def load(cls, parameters: Parameters, model: ModelConfig, config: AltUpConfig) -> "Streams":
        hidden, others = model.hidden_size, range(config.streams - 1)
        into = [(f"{model.model}.altup_projections.{i}", hidden) for i in others]
        back = (f"{model.model}.altup_unembed_projections.{i}" for i in others)
        return cls(
            Linear.load(parameters, into, hidden, bias=False),
            tuple(Linear.one(parameters, each, hidden, hidden) for each in back),
        )

    def spread(self, x: mx.array) -> mx.array:
        """Return (rows, streams, hidden_size) of (rows, hidden_size)."""
        others = self.into(x).reshape(x.shape[0], -1, x.shape[1])
        return mx.concatenate([x[:, None], _as_large(others, x[:, None])], axis=1)

    def gather(self, x: mx.array) -> mx.array:
        """Return (rows, hidden_size), to which all streams count alike."""
        total = first = x[:, 0]
        for stream, back in enumerate(self.back, 1):
            total = total + _as_large(back(x[:, stream]), first)
        return total / x.shape[1]


def _as_large(x: mx.array, like: mx.array) -> mx.array:
    """Scale x to the root mean square of `like`."""
    size = mx.sqrt(mx.mean(like * like, axis=-1, keepdims=True))
    return x * size / mx.sqrt(mx.maximum(mx.mean(x * x, axis=-1, keepdims=True), MIN_MEAN_SQUARE))


@dataclass(frozen=True, slots=True)
class AltUp:
    """The prediction of streams before a block, and their correction after it."""

    norm: AnyNorm
    router: Linear
    prediction: Linear
    correction: Linear
    active: int

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: AltUpConfig, name: str
    ) -> "AltUp":
        hidden, streams = model.hidden_size, config.streams

        def linear(part: str, outputs: int, inputs: int) -> Linear:
            return Linear.one(parameters, f"{name}.{part}", outputs, inputs)

        return cls(
            load_norm(parameters, f"{name}.router_norm", hidden, model.norm),
            linear("modality_router", streams, hidden),
            linear("prediction_coefs", streams**2, streams),
            linear("correction_coefs", streams, streams),
            config.active,
        )

    def predict(self, x: mx.array) -> mx.array:
        """Return (rows, streams, hidden_size), each stream with a share of every one."""
        rows, streams, _ = x.shape
        shares = self.prediction(self._modes(x[:, self.active])).reshape(rows, streams, streams)
        mixed = x[:, None, 0] * shares[:, :, 0, None]
        for stream in range(1, streams):
            mixed = mixed + x[:, None, stream] * shares[:, :, stream, None]
        return mixed + x

    def correct(self, predicted: mx.array, computed: mx.array) -> mx.array:
        """Move each stream its share of the way that the computed one, (rows, hidden), went."""
        way = computed - predicted[:, self.active]
        shares = self.correction(self._modes(computed)) + 1
        return predicted + shares[:, :, None] * way[:, None]

    def _modes(self, x: mx.array) -> mx.array:
        """Return (rows, streams)."""
        return mx.tanh(self.router(self.norm(x) / x.shape[1]))


@dataclass(frozen=True, slots=True)
class Laurel:
    """A path parallel to attention, through few dimensions."""

    left: Linear
    right: Linear
    norm: AnyNorm

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: AltUpConfig, name: str
    ) -> "Laurel":
        hidden = model.hidden_size
        return cls(
            Linear.one(parameters, f"{name}.linear_left", config.rank, hidden),
            Linear.one(parameters, f"{name}.linear_right", hidden, config.rank),
            load_norm(parameters, f"{name}.post_laurel_norm", hidden, model.norm),
        )

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.norm(self.right(self.left(x)))


@dataclass(frozen=True, slots=True)
class AltUpBlock:
    altup: AltUp
    laurel: Laurel
    attention: SharingAttention
    feed_forward: AnyMLP
    norms: tuple[AnyNorm, ...]  # before and after attention, then the feed-forward part
    scale: mx.array | None  # of the computed stream, as the layer's own embedding sees it
    gate: PerLayerGate

    @classmethod
    def load(cls, parameters: Parameters, model: ModelConfig, layer: int) -> "AltUpBlock":
        block, name = model.blocks[layer], f"{model.model}.layers.{layer}"
        altup, per_layer, names = model.altup, model.per_layer, block.names
        assert isinstance(block.mixer, SharingConfig) and isinstance(block.feed_forward, MlpConfig)
        assert altup is not None and isinstance(per_layer, PerLayerConfig)
        norms = (
            names.before_mixer,
            names.after_mixer,
            names.before_feed_forward,
            names.after_feed_forward,
        )
        hidden, scale = model.hidden_size, f"{name}.altup.correct_output_scale"
        return cls(
            AltUp.load(parameters, model, altup, f"{name}.altup"),
            Laurel.load(parameters, model, altup, f"{name}.laurel"),
            SharingAttention.load(parameters, model, block.mixer, f"{name}.{names.mixer}"),
            MLP.load(parameters, model, block.feed_forward, f"{name}.{names.feed_forward}"),
            tuple(load_norm(parameters, f"{name}.{each}", hidden, model.norm) for each in norms),
            parameters.vector(scale, hidden) if altup.scaled else None,
            PerLayerGate.load(parameters, model, per_layer, layer),
        )

    def __call__(self, x: mx.array, step: StepContext, cache: Cache) -> tuple[mx.array, Cache]:
        """Return the block of x, (rows, streams, hidden_size)."""
        predicted = self.altup.predict(x)
        active = predicted[:, self.altup.active]
        before, after, before_ffn, after_ffn = self.norms
        normed = before(active)
        attended, cache = self.attention(normed, None, None, step, cache)
        active = (active + after(attended) + self.laurel(normed)) * 0.5**0.5
        active = active + after_ffn(self.feed_forward(active, before_ffn, None))
        x = self.altup.correct(predicted, active)
        seen = x[:, self.altup.active]
        added = self.gate(seen if self.scale is None else seen * self.scale, step)
        return mx.concatenate([x[:, :1], x[:, 1:] + added[:, None]], axis=1), cache
