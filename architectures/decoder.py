"""A decoder-only language model: embed, blocks, norm, head, over one ragged step of rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import mlx.core as mx

from ..kernels.attention.pages import Heads
from ..kernels.linear.embedding import embedding
from ..kernels.linear.linear import linear
from ..kernels.linear.linear_mlx import Epilogue
from ..kernels.linear.rows import add
from ..kernels.linear.weight import Weight, pack
from .config import (
    AttentionConfig,
    BlockConfig,
    BothConfig,
    ConvConfig,
    DeltaConfig,
    LatentConfig,
    MlpConfig,
    ModelConfig,
    MoeConfig,
    Paged,
    SharingConfig,
    SsmConfig,
)
from .layers.altup import AltUpBlock, Streams
from .layers.attention import Attention, TwoWayAttention
from .layers.both import Both
from .layers.delta_net import DeltaNet
from .layers.mla import LatentAttention
from .layers.mlp import MLP
from .layers.moe import LatentMoE, MoE
from .layers.norm import AnyNorm, fused, settled
from .layers.norm import load as load_norm
from .layers.per_layer import Gate, Inputs
from .layers.rope import Rotary, still
from .layers.sharing_attention import SharingAttention
from .layers.short_conv import ShortConv
from .layers.ssm import Ssm
from .parameters import Parameters
from .step import Cache, Residual, Step, Turns


class Mixer(Protocol):
    """The part of a block in which tokens see others."""

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, turns: Turns, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """The layer of norm(x), plus the residual; and the next cache."""
        ...


class FeedForward(Protocol):
    """The part of a block that takes each token by itself."""

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """The layer of norm(x), plus the residual."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Two parts, of which one may be missing, with norms before and after each; then what is last.

    `last` adds the layer's own embedding, and all is multiplied by `factor`, (1,).
    """

    mixer: Mixer | None
    feed_forward: FeedForward | None
    before_mixer: AnyNorm | None
    after_mixer: AnyNorm | None
    before_feed_forward: AnyNorm | None
    after_feed_forward: AnyNorm | None
    parallel: bool
    scale: float  # of what a part adds
    last: Gate | None
    factor: mx.array | None

    @classmethod
    def load(cls, parameters: Parameters, config: ModelConfig, layer: int) -> "Block":
        own, name = config.blocks[layer], f"{config.model}.layers.{layer}"
        places = own.places

        def norm(place: str | None) -> AnyNorm | None:
            if place is None:
                return None
            return load_norm(parameters, f"{name}.{place}", config.hidden_size, config.norm)

        return cls(
            _mixer(parameters, config, own, f"{name}.{places.mixer}"),
            _feed_forward(parameters, config, own, f"{name}.{places.feed_forward}"),
            norm(places.before_mixer),
            norm(places.after_mixer),
            norm(places.before_feed_forward),
            norm(places.after_feed_forward),
            places.parallel,
            config.residual_scale,
            None
            if config.per_layer is None
            else Gate.load(parameters, config, config.per_layer, layer),
            None if places.factor is None else parameters.vector(f"{name}.{places.factor}", 1),
        )

    def __call__(self, x: mx.array, turns: Turns, cache: Cache) -> tuple[mx.array, Cache]:
        x, cache = self._parts(x, turns, cache)
        if self.last is not None:
            x = x + self.last(x, turns)
        return (x if self.factor is None else x * self.factor), cache

    def _parts(self, x: mx.array, turns: Turns, cache: Cache) -> tuple[mx.array, Cache]:
        if self.parallel:
            return self._side_by_side(x, turns, cache)
        if self.mixer is not None:
            apart = self._apart(self.after_mixer)
            y, cache = self.mixer(x, self.before_mixer, None if apart else x, turns, cache)
            x = self._sum(x, y, self.after_mixer) if apart else y
        if self.feed_forward is not None:
            apart = self._apart(self.after_feed_forward)
            y = self.feed_forward(x, self.before_feed_forward, None if apart else x)
            x = self._sum(x, y, self.after_feed_forward) if apart else y
        return x, cache

    def _side_by_side(self, x: mx.array, turns: Turns, cache: Cache) -> tuple[mx.array, Cache]:
        assert self.mixer is not None and self.feed_forward is not None
        assert self.before_mixer is not None
        normed = self.before_mixer(x)
        x, cache = self.mixer(normed, None, x, turns, cache)
        return self.feed_forward(normed, None, x), cache

    def _apart(self, after: AnyNorm | None) -> bool:
        """Whether something happens to a part's result before it is added."""
        return after is not None or self.scale != 1

    def _sum(self, x: mx.array, y: mx.array, after: AnyNorm | None) -> mx.array:
        return add(x, y if after is None else after(y), self.scale)


def _mixer(
    parameters: Parameters, config: ModelConfig, own: BlockConfig, name: str
) -> Mixer | None:
    match own.mixer:
        case None:
            return None
        case AttentionConfig() as found:
            attention = TwoWayAttention if config.bidirectional else Attention
            return attention.load(parameters, config, found, name)
        case SharingConfig() as found:
            return SharingAttention.load(parameters, config, found, name)
        case LatentConfig() as found:
            return LatentAttention.load(parameters, config, found, name)
        case DeltaConfig() as found:
            return DeltaNet.load(parameters, config, found, name)
        case ConvConfig() as found:
            return ShortConv.load(parameters, config, found, name)
        case SsmConfig() as found:
            return Ssm.load(parameters, config, found, name)


def _feed_forward(
    parameters: Parameters, config: ModelConfig, own: BlockConfig, name: str
) -> FeedForward | None:
    match own.feed_forward:
        case None:
            return None
        case MlpConfig() as found:
            return MLP.load(parameters, config, found, name)
        case MoeConfig() as found:
            moe = LatentMoE if found.latent else MoE
            return moe.load(parameters, config, found, name)
        case BothConfig() as found:
            return Both.load(parameters, config, found, name)


@dataclass(frozen=True, slots=True)
class Decoder:
    embed: Weight
    blocks: tuple[Block | AltUpBlock, ...]
    norm: AnyNorm
    head: Weight
    head_bias: mx.array | None
    ropes: tuple[Rotary, ...]
    inputs: Inputs | None  # each layer's own embeddings
    streams: Streams | None
    homes: tuple[int, ...]  # of each block, the number of its cache
    unturned: bool  # some layers have no positions
    config: ModelConfig
    dtype: mx.Dtype  # of activations; what a cache should hold

    @classmethod
    def load(cls, config: ModelConfig, parameters: Parameters) -> "Decoder":
        config = replace(config, norm=settled(parameters, config.norm))
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
            None if config.per_layer is None else Inputs.load(parameters, config, config.per_layer),
            None if config.altup is None else Streams.load(parameters, config, config.altup),
            config.homes,
            any(isinstance(m, AttentionConfig) and m.rope is None for m in mixers),
            config,
            parameters.dtype,
        )

    @property
    def paged_heads(self) -> list[Heads | None]:
        """Of the layers that keep pages; None for those that are more than attention by heads."""
        pairs = zip(self.blocks, self.config.caches, strict=True)
        paged = (block for block, cache in pairs if isinstance(cache, Paged))
        mixers = (block.mixer if isinstance(block, Block) else None for block in paged)
        return [mixer.heads if isinstance(mixer, Attention) else None for mixer in mixers]

    def __call__(
        self, tokens: mx.array, step: Step, caches: Sequence[Cache], rows: mx.array
    ) -> tuple[mx.array, list[Cache]]:
        """tokens: (rows,) int32; gives float32 logits of the wanted `rows`, and the next caches.

        Caches are written in place if the caller drops the old ones before evaluating anything.
        """
        x, written = self.hidden(tokens, step, caches)
        return self.logits(x if rows.size == x.shape[0] else x[rows]), written

    def hidden(
        self, tokens: mx.array, step: Step, caches: Sequence[Cache]
    ) -> tuple[mx.array, list[Cache]]:
        """(rows, hidden_size), before the last norm."""
        x = embedding(tokens, self.embed, self.dtype)
        if self.config.embed_scale != 1:
            x = x * self.config.embed_scale
        tables = tuple(rope.table(step.positions, step.reaches) for rope in self.ropes)
        inputs = None if self.inputs is None else self.inputs(tokens, x)
        turns = Turns(step, tables, still(step.positions) if self.unturned else None, inputs)
        x = x if self.streams is None else self.streams.spread(x)
        written = list(caches)
        for block, home in zip(self.blocks, self.homes, strict=True):
            x, written[home] = block(x, turns, written[home])
        return (x if self.streams is None else self.streams.gather(x)), written

    def logits(self, x: mx.array) -> mx.array:
        """(rows, hidden_size) to (rows, vocab_size) float32."""
        x, norm = fused(x, self.norm)
        logits = linear(x, self.head, Epilogue(self.head_bias), norm).astype(mx.float32)
        if self.config.logit_scale != 1:
            logits = logits * self.config.logit_scale
        softcap = self.config.logit_softcap
        return logits if softcap is None else softcap * mx.tanh(logits / softcap)
