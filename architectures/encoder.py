"""An encoder over sequences of any lengths: their rows lie flat, one after the other, unpadded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..kernels.attention.encoder_attention import encoder_attention
from ..kernels.attention.rope import Table, rope
from ..kernels.linear.activation import activate_plain
from ..kernels.linear.embedding import embedding
from ..kernels.linear.weight import Weight, pack
from .encoder_config import Activation, ClassifierConfig, EncoderConfig, LayerKind, Positions
from .layers.linear import Linear
from .layers.norm import AnyNorm
from .layers.norm import load as load_norm
from .layers.rope import Rotary, table_of
from .parameters import Parameters

ACTIVATIONS: dict[Activation, Callable[[mx.array], mx.array]] = {
    "gelu": partial(activate_plain, activation="gelu"),
    "gelu_tanh": partial(activate_plain, activation="gelu_tanh"),
    "relu": lambda x: mx.maximum(x, 0),
    "silu": partial(activate_plain, activation="silu"),
    "tanh": mx.tanh,
}


@dataclass(frozen=True, slots=True)
class EncoderFeedForward:
    up: Linear
    down: Linear
    activation: Activation
    gated: bool

    @classmethod
    def load(cls, parameters: Parameters, config: EncoderConfig, name: str) -> "EncoderFeedForward":
        hidden, down = config.hidden_size, f"{name}.{config.names.down}"
        return cls(
            _up(parameters, config, [f"{name}.{part}" for part in config.names.up]),
            Linear.one(parameters, down, hidden, config.width, config.down_bias),
            config.activation,
            config.gated,
        )

    def __call__(self, x: mx.array, residual: mx.array) -> mx.array:
        if self.gated:
            assert self.activation != "relu" and self.activation != "tanh"
            return self.down(self.up.gated(x, self.activation), residual)
        return self.down(ACTIVATIONS[self.activation](self.up(x)), residual)


def _up(parameters: Parameters, config: EncoderConfig, modules: Sequence[str]) -> Linear:
    """Read the up projection; that of a gated layer is for `Linear.gated`."""
    width, hidden, bias = config.width, config.hidden_size, config.up_bias
    if not config.gated:
        return Linear.one(parameters, modules[0], width, hidden, bias)
    return Linear.load_pair(parameters, modules, width, hidden, bias, config.names.gate_last)


@dataclass(frozen=True, slots=True, eq=False)
class EncoderContext:
    """The rows as attention of one kind of layer is told of them; see kernels.encoder_attention."""

    lengths: Sequence[int]
    window: int | None
    table: Table | None
    bias: mx.array | None


@dataclass(frozen=True, slots=True)
class EncoderAttention:
    projections: Linear  # queries, keys and values, one after the other
    output: Linear
    heads: int

    @classmethod
    def load(cls, parameters: Parameters, config: EncoderConfig, name: str) -> "EncoderAttention":
        hidden, names = config.hidden_size, config.names.projections
        each = 3 * hidden // len(names)
        modules = [(f"{name}.{part}", each) for part in names]
        output, bias = f"{name}.{config.names.attended}", config.attention_bias
        return cls(
            Linear.load(parameters, modules, hidden, bias),
            Linear.one(parameters, output, hidden, hidden, bias),
            config.heads,
        )

    def __call__(self, x: mx.array, residual: mx.array, context: EncoderContext) -> mx.array:
        rows, hidden = x.shape
        head_dim = hidden // self.heads
        qkv = self.projections(x)
        if context.table is not None:
            qk, v = mx.split(qkv, [2 * hidden], axis=1)
            rotated = rope(qk.reshape(rows, 2 * self.heads, head_dim), context.table)
            qkv = mx.concatenate([rotated.reshape(rows, 2 * hidden), v], axis=1)
        attended = encoder_attention(
            qkv, self.heads, head_dim**-0.5, context.lengths, context.window, context.bias
        )
        return self.output(attended, residual)


@dataclass(frozen=True, slots=True)
class EncoderBlock:
    attention: EncoderAttention
    attention_norm: AnyNorm | None
    feed_forward: EncoderFeedForward
    feed_forward_norm: AnyNorm
    pre_norm: bool

    @classmethod
    def load(cls, parameters: Parameters, config: EncoderConfig, layer: int) -> "EncoderBlock":
        name, size = f"{config.names.layers}.{layer}", config.hidden_size
        first, second = (
            f"{name}.{part}"
            for part in (config.names.attention_norm, config.names.feed_forward_norm)
        )
        bare = config.pre_norm and layer == 0  # the embeddings' norm has just been
        return cls(
            EncoderAttention.load(parameters, config, name),
            None if bare else load_norm(parameters, first, size, config.norm),
            EncoderFeedForward.load(parameters, config, name),
            load_norm(parameters, second, size, config.norm),
            config.pre_norm,
        )

    def __call__(self, x: mx.array, context: EncoderContext) -> mx.array:
        if self.pre_norm:
            x = self.attention(_normed(x, self.attention_norm), x, context)
            return self.feed_forward(self.feed_forward_norm(x), x)
        x = _normed(self.attention(x, x, context), self.attention_norm)
        return self.feed_forward_norm(self.feed_forward(x, x))


def _normed(x: mx.array, norm: AnyNorm | None) -> mx.array:
    return x if norm is None else norm(x)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embeddings of tokens and, where there are such, of positions and of token types."""

    tokens: Weight
    positions: Weight | None
    types: Weight | None
    norm: AnyNorm

    @classmethod
    def load(cls, parameters: Parameters, config: EncoderConfig) -> "Embeddings":
        names, size = config.names, config.hidden_size

        def table(name: str, rows: int) -> Weight | None:
            return pack(parameters.matrix(name, rows, size)) if rows else None

        return cls(
            pack(parameters.matrix(names.tokens, config.vocab_size, size)),
            table(names.positions, config.positions.rows if config.positions else 0),
            table(names.types, config.types),
            load_norm(parameters, names.embedding_norm, size, config.norm),
        )

    def __call__(
        self, tokens: mx.array, positions: mx.array, types: mx.array, dtype: mx.Dtype
    ) -> mx.array:
        x = embedding(tokens, self.tokens, dtype)
        if self.types is not None:
            x = x + embedding(types, self.types, dtype)
        if self.positions is not None:
            x = x + embedding(positions, self.positions, dtype)
        return self.norm(x)


@dataclass(frozen=True, slots=True)
class Classifier:
    """The scorer of a sequence by its hidden states."""

    config: ClassifierConfig
    dense: Linear
    norm: AnyNorm | None
    output: Linear

    @classmethod
    def load(
        cls, parameters: Parameters, config: EncoderConfig, head: ClassifierConfig
    ) -> "Classifier":
        size = config.hidden_size
        return cls(
            head,
            Linear.one(parameters, head.dense, size, size, head.dense_bias),
            load_norm(parameters, head.norm, size, config.norm) if head.norm else None,
            Linear.one(parameters, head.output, head.labels, size, True),
        )

    def __call__(self, hidden: Sequence[mx.array]) -> mx.array:
        """Return (sequences, labels) float32 of each sequence's (tokens, width)."""
        first = self.config.pooling == "cls"
        x = mx.stack([rows[0] if first else rows.mean(axis=0) for rows in hidden])
        x = _normed(ACTIVATIONS[self.config.activation](self.dense(x)), self.norm)
        return self.output(x).astype(mx.float32)


@dataclass(frozen=True, slots=True)
class Encoder:
    config: EncoderConfig
    embeddings: Embeddings
    rotary: dict[LayerKind, Rotary]
    distances: mx.array | None  # (buckets, heads)
    blocks: tuple[EncoderBlock, ...]
    norm: AnyNorm | None
    classifier: Classifier | None
    dtype: mx.Dtype  # of activations

    @classmethod
    def load(cls, config: EncoderConfig, parameters: Parameters) -> "Encoder":
        final, head = config.names.final_norm, config.classifier
        kinds = dict.fromkeys(config.layers)
        return cls(
            config,
            Embeddings.load(parameters, config),
            {kind: Rotary.of(kind.rope) for kind in kinds if kind.rope is not None},
            _distances(parameters, config),
            tuple(
                EncoderBlock.load(parameters, config, layer) for layer in range(len(config.layers))
            ),
            load_norm(parameters, final, config.hidden_size, config.norm) if final else None,
            None if head is None else Classifier.load(parameters, config, head),
            parameters.dtype,
        )

    def __call__(
        self, sequences: Sequence[Sequence[int]], types: Sequence[Sequence[int]] = ()
    ) -> list[mx.array]:
        """Return each sequence's hidden states, (tokens, width), in the dtype of activations.

        Sequences are not empty and not longer than the config's context; neighbours of one length
        are the cheapest. `types` has one for each token, or is left out for 0.
        """
        lengths = [len(sequence) for sequence in sequences]
        tokens = np.concatenate([np.asarray(sequence, np.int32) for sequence in sequences])
        kinds = np.concatenate([np.asarray(t, np.int32) for t in types]) if types else tokens * 0
        positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
        rows = positions
        if self.config.positions is not None:
            rows = np.concatenate([_rows(self.config.positions, s) for s in sequences])
        x = self.embeddings(mx.array(tokens), mx.array(rows), mx.array(kinds), self.dtype)
        contexts = self._places(lengths, mx.array(positions))
        for kind, block in zip(self.config.layers, self.blocks, strict=True):
            x = block(x, contexts[kind])
        bounds = np.cumsum(lengths)[:-1].tolist()
        return list(mx.split(_normed(x, self.norm), bounds))

    def _places(
        self, lengths: Sequence[int], positions: mx.array
    ) -> dict[LayerKind, EncoderContext]:
        """Return what each kind of layer is told."""
        bias = None if self.distances is None else by_distance(max(lengths), self.distances)
        tables = {
            kind: table_of(positions, rotary.angles(None)) for kind, rotary in self.rotary.items()
        }
        kinds = dict.fromkeys(self.config.layers)
        return {
            kind: EncoderContext(lengths, kind.window, tables.get(kind), bias) for kind in kinds
        }


def _distances(parameters: Parameters, config: EncoderConfig) -> mx.array | None:
    if not config.buckets:
        return None
    name = f"{config.names.distances}.weight"
    return parameters.vector(name, config.buckets, config.heads)


def by_distance(longest: int, table: mx.array) -> mx.array:
    """Return (heads, 2 longest - 1): biases of keys 1 - longest, ..., longest - 1 tokens ahead.

    table: (buckets, heads). T5's buckets (arXiv 1910.10683, section 2.1): half of them for each
    direction, of these half for a distance each, the others ever wider up to 128 tokens.
    """
    side = table.shape[0] // 2
    exact = side // 2
    ahead = np.arange(1 - longest, longest)
    far = np.maximum(abs(ahead), 1).astype(np.float32) / np.float32(exact)
    wide = np.log(far) / np.float32(np.log(128 / exact)) * np.float32(side - exact)
    beyond = np.minimum(exact + wide.astype(np.int32), side - 1)
    bucket = np.where(abs(ahead) < exact, abs(ahead), beyond) + side * (ahead > 0)
    bias = table[mx.array(bucket.astype(np.int32))].T.astype(mx.float32)
    return mx.contiguous(bias)


def _rows(positions: Positions, sequence: Sequence[int]) -> NDArray[np.int32]:
    """Return each token's row of the position embeddings."""
    if positions.padding is None:
        return np.arange(len(sequence), dtype=np.int32)
    counted = np.asarray(sequence) != positions.padding
    numbers = np.cumsum(counted) + positions.first - 1
    return np.where(counted, numbers, positions.padding).astype(np.int32)
