"""Self-attention over the paged cache: projections, and what lies between them."""

from dataclasses import dataclass
from typing import Self

import mlx.core as mx
import numpy as np

from ...kernels.attention.attention import attention
from ...kernels.attention.encoder_attention import encoder_attention
from ...kernels.attention.pages import Heads, Pages
from ...kernels.attention.rope import rope
from ...kernels.linear.rows import join, split
from ...kernels.linear.sigmoid_gate import sigmoid_gate
from ...kernels.linear.weight import take_rows
from ...kernels.norm.rms_norm import Norm, rms_norm
from ..config import AttentionConfig, ModelConfig
from ..parameters import Parameters
from ..step import Cache, Residual, Turns
from .linear import Linear
from .norm import AnyNorm, HeadNorms, scale

JointNorm = Norm | HeadNorms


@dataclass(frozen=True, slots=True)
class Attention:
    """`rope` and `group` are numbers of a step's tables and layouts; None: no positions."""

    projections: Linear  # queries, keys and values, then gates, one after the other
    output: Linear
    heads: Heads
    group: int
    rope: int | None
    joint_norms: tuple[JointNorm, JointNorm] | None  # of all queries, and of all keys
    gated: bool
    temper: float
    temper_from: int

    @classmethod
    def load(
        cls, parameters: Parameters, config: ModelConfig, own: AttentionConfig, name: str
    ) -> Self:
        return cls(
            _projections(parameters, config, own, name),
            Linear.load(
                parameters,
                [(f"{name}.{own.output}", config.hidden_size)],
                own.heads * own.head_dim,
                own.output_bias,
            ),
            _heads(parameters, config, own, name),
            config.windows.index(own.window),
            None if own.rope is None else config.ropes.index(own.rope),
            _joint_norms(parameters, config, own, name),
            own.gated,
            own.temper,
            own.temper_from,
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, turns: Turns, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """The attention of norm(x), plus the residual."""
        qkv = self.projections(x, norm=norm)
        gates = None
        if self.gated:
            qkv, gates = split(qkv, [qkv.shape[1] - self._queries])
        if self.joint_norms is not None:
            qkv = self._normed(qkv, *self.joint_norms)
        if self.temper:
            qkv = self._tempered(qkv, turns.step.positions)
        attended, cache = self._attend(qkv, turns, cache)
        if gates is not None:
            attended = sigmoid_gate(attended, gates)
        return self.output(attended, residual), cache

    def _attend(self, qkv: mx.array, turns: Turns, cache: Cache) -> tuple[mx.array, Cache]:
        assert isinstance(cache, Pages)
        layout = turns.step.layouts[self.group]
        return attention(qkv, self.heads, turns.table(self.rope), cache, layout)

    @property
    def _queries(self) -> int:
        return self.heads.heads * self.heads.head_dim

    def _normed(self, qkv: mx.array, q_norm: JointNorm, k_norm: JointNorm) -> mx.array:
        keys = self._queries + self.heads.kv_heads * self.heads.head_dim
        q, k, v = split(qkv, [self._queries, keys])
        return join([q_norm(q), k_norm(k), v])

    def _tempered(self, qkv: mx.array, positions: mx.array) -> mx.array:
        heat = 1 + self.temper * mx.log(1 + mx.floor(positions / self.temper_from))
        q, rest = split(qkv, [self._queries])
        return join([q * heat[:, None].astype(q.dtype), rest])


@dataclass(frozen=True, slots=True)
class TwoWayAttention(Attention):
    """The same where a row sees those after it too; the step has whole sequences, and no cache."""

    def _attend(self, qkv: mx.array, turns: Turns, cache: Cache) -> tuple[mx.array, Cache]:
        heads, runs = self.heads, turns.step.runs
        assert cache is None and runs is not None
        assert heads.sinks is None and heads.softcap is None and heads.value_dim == heads.head_dim
        rows, (count, shared) = qkv.shape[0], (heads.heads, heads.kv_heads)
        q, k, v = mx.split(qkv.reshape(rows, -1, heads.head_dim), [count, count + shared], axis=1)
        q = q if heads.q_norm is None else rms_norm(q, heads.q_norm, heads.eps)
        k = k if heads.k_norm is None else rms_norm(k, heads.k_norm, heads.eps)
        table = turns.table(self.rope)
        q, k = (rope(x, table, heads.interleaved, heads.rope_offset) for x in (q, k))
        k, v = (mx.repeat(x, count // shared, axis=1) for x in (k, v))
        each = mx.concatenate([q, k, v], axis=1).reshape(rows, -1)
        lengths = np.diff(runs.starts).tolist()
        window = None if heads.window is None else heads.window - 1  # which counts the row itself
        return encoder_attention(each, count, heads.scale, lengths, window), None


def _projections(
    parameters: Parameters, config: ModelConfig, own: AttentionConfig, name: str
) -> Linear:
    queries, keys = own.heads * own.head_dim, own.kv_heads * own.head_dim
    hidden = config.hidden_size
    if parameters.has(f"{name}.qkv_proj.weight"):
        return Linear.load(parameters, [(f"{name}.qkv_proj", queries + 2 * keys)], hidden, own.bias)
    modules = [(f"{name}.q_proj", queries), (f"{name}.k_proj", keys), (f"{name}.v_proj", keys)]
    if not own.gated:
        return Linear.load(parameters, modules, hidden, own.bias)
    return _gated(parameters, modules, own, hidden)


def _gated(
    parameters: Parameters, modules: list[tuple[str, int]], own: AttentionConfig, hidden: int
) -> Linear:
    """q_proj has each head's queries and then its gates; here all gates come last."""
    (q_name, queries), *others = modules
    rows = np.arange(2 * queries).reshape(own.heads, 2, own.head_dim)
    both = parameters.matrix(q_name, 2 * queries, hidden)
    bias = [parameters.vector(f"{q_name}.bias", 2 * queries)] if own.bias else []
    orders = [rows[:, part].reshape(-1) for part in (0, 1)]
    taken = [take_rows(both, order) for order in orders]
    weights = [parameters.matrix(module, size, hidden) for module, size in others]
    biases = [parameters.vector(f"{module}.bias", size) for module, size in others if own.bias]
    halves = [each[mx.array(order)] for each in bias for order in orders]
    return Linear.joined([taken[0], *weights, taken[1]], [*halves[:1], *biases, *halves[1:]])


def _heads(parameters: Parameters, config: ModelConfig, own: AttentionConfig, name: str) -> Heads:
    q_norm, k_norm = (
        scale(parameters, f"{name}.{part}.weight", own.head_dim, config.norm)
        if own.qk_norm == "head"
        else None
        for part in (own.query_norm, own.key_norm)
    )
    sinks = parameters.vector(f"{name}.sinks", own.heads, dtype=mx.float32) if own.sinks else None
    return Heads(
        own.heads,
        own.kv_heads,
        own.head_dim,
        own.scale,
        own.head_dim,
        own.window,
        softcap=own.softcap,
        sinks=sinks,
        q_norm=q_norm,
        k_norm=k_norm,
        eps=config.norm.eps,
        interleaved=own.interleaved,
    )


def _joint_norms(
    parameters: Parameters, config: ModelConfig, own: AttentionConfig, name: str
) -> tuple[JointNorm, JointNorm] | None:
    sizes = {own.query_norm: own.heads, own.key_norm: own.kv_heads}
    if own.qk_norm == "all":
        q_norm, k_norm = (
            Norm(
                scale(parameters, f"{name}.{part}.weight", count * own.head_dim, config.norm),
                config.norm.eps,
            )
            for part, count in sizes.items()
        )
        return q_norm, k_norm
    if own.qk_norm == "centred":
        q_each, k_each = (
            HeadNorms(
                parameters.vector(f"{name}.{part}.weight", count, own.head_dim), config.norm.eps
            )
            for part, count in sizes.items()
        )
        return q_each, k_each
    return None
