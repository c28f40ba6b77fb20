"""A decoder-only language model: embed, blocks, norm, head, over one ragged step of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import mlx.core as mx
import numpy as np

from ..kernels.attention.pages import Heads
from ..kernels.attention.rope import Table
from ..kernels.linear.embedding import embedding
from ..kernels.linear.linear import linear
from ..kernels.linear.linear_mlx import Epilogue
from ..kernels.linear.rows import add, scaled
from ..kernels.linear.weight import Weight, pack
from ..kernels.norm.rms_norm import Norm
from .config import (
    AttentionConfig,
    ConvConfig,
    DeltaConfig,
    LatentConfig,
    MixerConfig,
    ModelConfig,
    Paged,
    SharingConfig,
    SsmConfig,
)
from .feed_forward_config import FeedForwardConfig, MlpConfig, MoeConfig, ParallelConfig
from .layers.altup import AltUpBlock, Streams
from .layers.attention import Attention, TwoWayAttention
from .layers.delta_net import DeltaNet
from .layers.mla import LatentAttention
from .layers.mlp import MLP
from .layers.moe import LatentMoE, MoE
from .layers.norm import AnyNorm, fused, resolved
from .layers.norm import load as load_norm
from .layers.parallel import ParallelFeedForward
from .layers.per_layer import PerLayerGate, PerLayerInputs
from .layers.rope import Angles, Rotary, no_rope_table, table_of
from .layers.sharing_attention import SharingAttention
from .layers.short_conv import ShortConv
from .layers.ssm import Ssm
from .parameters import Parameters
from .step import Cache, Residual, StepContext, StepRows


class Mixer(Protocol):
    """A block's part in which tokens see others."""

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, step: StepContext, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """Return the layer of norm(x) plus the residual, and the next cache."""
        ...


class FeedForward(Protocol):
    """A block's part that takes each token by itself."""

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """Return the layer of norm(x), plus the residual."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Two parts, of which one may be missing, with norms before and after each.

    `last` then adds the layer's own embedding, and all is multiplied by `factor`, (1,).
    """

    mixer: Mixer | None
    feed_forward: FeedForward | None
    before_mixer: AnyNorm | None
    after_mixer: AnyNorm | None
    before_feed_forward: AnyNorm | None
    after_feed_forward: AnyNorm | None
    parallel: bool
    scale: float  # of what a part adds
    last: PerLayerGate | None
    factor: mx.array | None

    @classmethod
    def load(cls, parameters: Parameters, config: ModelConfig, layer: int) -> "Block":
        block, name = config.blocks[layer], f"{config.model}.layers.{layer}"
        names = block.names

        def norm(place: str | None) -> AnyNorm | None:
            if place is None:
                return None
            return load_norm(parameters, f"{name}.{place}", config.hidden_size, config.norm)

        return cls(
            _mixer(parameters, config, block.mixer, f"{name}.{names.mixer}"),
            _feed_forward(parameters, config, block.feed_forward, f"{name}.{names.feed_forward}"),
            norm(names.before_mixer),
            norm(names.after_mixer),
            norm(names.before_feed_forward),
            norm(names.after_feed_forward),
            names.parallel,
            config.residual_scale,
            None
            if config.per_layer is None
            else PerLayerGate.load(parameters, config, config.per_layer, layer),
            None if names.factor is None else parameters.vector(f"{name}.{names.factor}", 1),
        )

    def __call__(self, x: mx.array, step: StepContext, cache: Cache) -> tuple[mx.array, Cache]:
        x, cache = self._parts(x, step, cache)
        if self.last is not None:
            x = x + self.last(x, step)
        return (x if self.factor is None else x * self.factor), cache

    def _parts(self, x: mx.array, step: StepContext, cache: Cache) -> tuple[mx.array, Cache]:
        if self.parallel:
            return self._in_parallel(x, step, cache)
        if self.mixer is not None:
            later = self._adds_later(self.after_mixer)
            y, cache = self.mixer(x, self.before_mixer, None if later else x, step, cache)
            x = self._sum(x, y, self.after_mixer) if later else y
        if self.feed_forward is not None:
            later = self._adds_later(self.after_feed_forward)
            y = self.feed_forward(x, self.before_feed_forward, None if later else x)
            x = self._sum(x, y, self.after_feed_forward) if later else y
        return x, cache

    def _in_parallel(self, x: mx.array, step: StepContext, cache: Cache) -> tuple[mx.array, Cache]:
        assert self.mixer is not None and self.feed_forward is not None
        assert self.before_mixer is not None
        normed = self.before_mixer(x)
        x, cache = self.mixer(normed, None, x, step, cache)
        return self.feed_forward(normed, None, x), cache

    def _adds_later(self, norm: AnyNorm | None) -> bool:
        """Return whether something happens to a part's result before it is added."""
        return norm is not None or self.scale != 1

    def _sum(self, x: mx.array, y: mx.array, norm: AnyNorm | None) -> mx.array:
        if isinstance(norm, Norm) and self.scale == 1:
            return norm(y, x)
        return add(x, y if norm is None else norm(y), self.scale)


MIXERS: dict[type, Callable[..., Mixer]] = {
    AttentionConfig: Attention.load,
    SharingConfig: SharingAttention.load,
    LatentConfig: LatentAttention.load,
    DeltaConfig: DeltaNet.load,
    ConvConfig: ShortConv.load,
    SsmConfig: Ssm.load,
}
FEED_FORWARDS: dict[type, Callable[..., FeedForward]] = {
    MlpConfig: MLP.load,
    MoeConfig: MoE.load,
    ParallelConfig: ParallelFeedForward.load,
}


def _mixer(
    parameters: Parameters, model: ModelConfig, config: MixerConfig | None, name: str
) -> Mixer | None:
    if isinstance(config, AttentionConfig) and model.bidirectional:
        return TwoWayAttention.load(parameters, model, config, name)
    return None if config is None else MIXERS[type(config)](parameters, model, config, name)


def _feed_forward(
    parameters: Parameters, model: ModelConfig, config: FeedForwardConfig | None, name: str
) -> FeedForward | None:
    if isinstance(config, MoeConfig) and config.latent:
        return LatentMoE.load(parameters, model, config, name)
    return None if config is None else FEED_FORWARDS[type(config)](parameters, model, config, name)


@dataclass(frozen=True, slots=True)
class Decoder:
    embed: Weight
    blocks: tuple[Block | AltUpBlock, ...]
    norm: AnyNorm
    head: Weight
    head_bias: mx.array | None
    ropes: tuple[Rotary, ...]
    inputs: PerLayerInputs | None
    streams: Streams | None
    cache_index: tuple[int, ...]  # as ModelConfig has it
    no_rope: bool  # some layers have no positions
    config: ModelConfig
    dtype: mx.Dtype  # of activations; what a cache should hold

    @classmethod
    def load(cls, config: ModelConfig, parameters: Parameters) -> "Decoder":
        config = replace(config, norm=resolved(parameters, config.norm))
        vocabulary, hidden = config.vocab_size, config.hidden_size
        model, head = config.model, config.head
        block = Block if config.altup is None else AltUpBlock
        mixers = (each.mixer for each in config.blocks)
        embed = pack(parameters.matrix(f"{model}.{config.embed}", vocabulary, hidden))
        return cls(
            embed,
            tuple(block.load(parameters, config, layer) for layer in range(config.layers)),
            load_norm(parameters, f"{model}.{config.final_norm}", hidden, config.norm),
            embed if config.tied else pack(parameters.matrix(head, vocabulary, hidden)),
            parameters.vector(f"{head}.bias", vocabulary) if config.head_bias else None,
            tuple(Rotary.of(rope) for rope in config.ropes),
            None
            if config.per_layer is None
            else PerLayerInputs.load(parameters, config, config.per_layer),
            None if config.altup is None else Streams.load(parameters, config, config.altup),
            config.cache_index,
            any(isinstance(m, AttentionConfig) and m.rope is None for m in mixers),
            config,
            parameters.dtype,
        )

    @property
    def paged_heads(self) -> list[tuple[Heads, bool] | None]:
        """The heads of layers with pages, and whether those are latents'.

        None for layers that are more than attention by heads.
        """
        pairs = zip(self.blocks, self.config.caches, strict=True)
        paged = (block for block, cache in pairs if isinstance(cache, Paged))
        mixers = (block.mixer if isinstance(block, Block) else None for block in paged)
        return [
            (mixer.heads, isinstance(mixer, LatentAttention))
            if isinstance(mixer, Attention | LatentAttention)
            else None
            for mixer in mixers
        ]

    def angles(self, max_lens: np.ndarray | None) -> tuple[Angles, ...]:
        """Return each rope's angles; `max_lens` as in StepRows."""
        return tuple(rope.angles(max_lens) for rope in self.ropes)

    def __call__(
        self, tokens: mx.array, step: StepRows, caches: Sequence[Cache], rows: mx.array | None
    ) -> tuple[mx.array, list[Cache]]:
        """Return the logits of these `rows` of tokens (rows,) int32, or all, and the next caches.

        Caches are written in place if the caller drops the old ones before evaluating anything.
        """
        x, written = self.hidden(tokens, step, caches)
        whole = rows is None or rows.size == x.shape[0]
        return self.logits(x if whole else x[rows]), written

    def tables(self, step: StepRows) -> tuple[Table, ...]:
        """Return the rotary positions of a step's rows for each of ModelConfig.ropes."""
        if step.tables is not None:
            return step.tables
        angles = self.angles(step.max_lens) if step.angles is None else step.angles
        return tuple(table_of(step.positions, each) for each in angles)

    def hidden(
        self, tokens: mx.array, step: StepRows, caches: Sequence[Cache]
    ) -> tuple[mx.array, list[Cache]]:
        """Return (rows, hidden_size), before the last norm, and the next caches."""
        x = embedding(tokens, self.embed, self.dtype)
        if self.config.embed_scale != 1:
            x = scaled(x, self.config.embed_scale)
        inputs = None if self.inputs is None else self.inputs(tokens, x)
        context = StepContext(
            step, self.tables(step), no_rope_table(step.positions) if self.no_rope else None, inputs
        )
        x = x if self.streams is None else self.streams.spread(x)
        written = list(caches)
        for block, index in zip(self.blocks, self.cache_index, strict=True):
            x, written[index] = block(x, context, written[index])
        return (x if self.streams is None else self.streams.gather(x)), written

    def logits(self, x: mx.array) -> mx.array:
        """Return (rows, vocab_size) of (rows, hidden_size): in float32 where anything follows."""
        return self.softcapped(self.product(x))

    def product(self, x: mx.array) -> mx.array:
        """Return the logits of (rows, hidden_size) before their softcap."""
        x, norm = fused(x, self.norm)
        logits = linear(x, self.head, Epilogue(self.head_bias), norm)
        scale = self.config.logit_scale
        return logits if scale == 1 else scaled(_widened(logits), scale)

    def softcapped(self, logits: mx.array) -> mx.array:
        softcap = self.config.logit_softcap
        return logits if softcap is None else softcap * mx.tanh(_widened(logits) / softcap)


def _widened(x: mx.array) -> mx.array:
    return x if x.dtype == mx.float32 else x.astype(mx.float32)
