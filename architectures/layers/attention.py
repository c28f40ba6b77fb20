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
from ..step import Cache, Residual, StepContext
from .linear import Linear
from .norm import AnyNorm, HeadNorms, scale

JointNorm = Norm | HeadNorms


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of queries, keys and values; `rope` and `group` index a step's tables and layouts.

    A rope of None has no positions.
    """

    projections: Linear  # queries, keys and values, then gates, one after the other
    output: Linear
    heads: Heads
    group: int
    rope: int | None
    joint_norms: tuple[JointNorm, JointNorm] | None  # of all queries, and of all keys
    gated: bool
    attention_temperature: float
    temperature_from: int

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: AttentionConfig, name: str
    ) -> Self:
        width = config.heads * config.head_dim
        return cls(
            _projections(parameters, model, config, name),
            Linear.one(
                parameters, f"{name}.{config.output}", model.hidden_size, width, config.output_bias
            ),
            _heads(parameters, model, config, name),
            model.windows.index(config.window),
            None if config.rope is None else model.ropes.index(config.rope),
            _joint_norms(parameters, model, config, name),
            config.gated,
            config.attention_temperature,
            config.temperature_from,
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, step: StepContext, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """Return the attention of norm(x), plus the residual."""
        qkv = self.projections(x, norm=norm)
        gates = None
        if self.gated:
            qkv, gates = split(qkv, [qkv.shape[1] - self._queries])
        if self.joint_norms is not None:
            qkv = self._normed(qkv, *self.joint_norms)
        if self.attention_temperature:
            qkv = self._scaled_queries(qkv, step.rows.positions)
        attended, cache = self._attend(qkv, step, cache)
        if gates is not None:
            attended = sigmoid_gate(attended, gates)
        return self.output(attended, residual), cache

    def _attend(self, qkv: mx.array, step: StepContext, cache: Cache) -> tuple[mx.array, Cache]:
        assert isinstance(cache, Pages)
        layout = step.rows.layouts[self.group]
        return attention(qkv, self.heads, step.table(self.rope), cache, layout)

    @property
    def _queries(self) -> int:
        return self.heads.heads * self.heads.head_dim

    def _normed(self, qkv: mx.array, q_norm: JointNorm, k_norm: JointNorm) -> mx.array:
        keys = self._queries + self.heads.kv_heads * self.heads.head_dim
        q, k, v = split(qkv, [self._queries, keys])
        return join([q_norm(q), k_norm(k), v])

    def _scaled_queries(self, qkv: mx.array, positions: mx.array) -> mx.array:
        steps = mx.floor(positions / self.temperature_from)
        scales = 1 + self.attention_temperature * mx.log(1 + steps)
        q, rest = split(qkv, [self._queries])
        return join([q * scales[:, None].astype(q.dtype), rest])


@dataclass(frozen=True, slots=True)
class TwoWayAttention(Attention):
    """Attention of rows that see later ones too; a step has whole sequences, and no cache."""

    def _attend(self, qkv: mx.array, step: StepContext, cache: Cache) -> tuple[mx.array, Cache]:
        heads, runs = self.heads, step.rows.runs
        assert cache is None and runs is not None
        assert heads.sinks is None and heads.softcap is None and heads.value_dim == heads.head_dim
        rows, (count, shared) = qkv.shape[0], (heads.heads, heads.kv_heads)
        q, k, v = mx.split(qkv.reshape(rows, -1, heads.head_dim), [count, count + shared], axis=1)
        q = q if heads.q_norm is None else rms_norm(q, heads.q_norm, heads.eps)
        k = k if heads.k_norm is None else rms_norm(k, heads.k_norm, heads.eps)
        table = step.table(self.rope)
        q, k = (rope(x, table, heads.interleaved, heads.rope_offset) for x in (q, k))
        k, v = (mx.repeat(x, count // shared, axis=1) for x in (k, v))
        each = mx.concatenate([q, k, v], axis=1).reshape(rows, -1)
        lengths = np.diff(runs.starts).tolist()
        window = None if heads.window is None else heads.window - 1  # which counts the row itself
        return encoder_attention(each, count, heads.scale, lengths, window), None


def _projections(
    parameters: Parameters, model: ModelConfig, config: AttentionConfig, name: str
) -> Linear:
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden = model.hidden_size
    if parameters.has(f"{name}.qkv_proj.weight"):
        return Linear.one(parameters, f"{name}.qkv_proj", queries + 2 * keys, hidden, config.bias)
    modules = [(f"{name}.q_proj", queries), (f"{name}.k_proj", keys), (f"{name}.v_proj", keys)]
    if not config.gated:
        return Linear.load(parameters, modules, hidden, config.bias)
    return _gated(parameters, modules, config, hidden)


def _gated(
    parameters: Parameters, modules: list[tuple[str, int]], config: AttentionConfig, hidden: int
) -> Linear:
    """Put all gates last; q_proj has each head's queries and then its gates."""
    (q_name, queries), *others = modules
    rows = np.arange(2 * queries).reshape(config.heads, 2, config.head_dim)
    both = parameters.matrix(q_name, 2 * queries, hidden)
    bias = [parameters.vector(f"{q_name}.bias", 2 * queries)] if config.bias else []
    orders = [rows[:, part].reshape(-1) for part in (0, 1)]
    taken = [take_rows(both, order) for order in orders]
    weights = [parameters.matrix(module, size, hidden) for module, size in others]
    biases = [parameters.vector(f"{module}.bias", size) for module, size in others if config.bias]
    halves = [each[mx.array(order)] for each in bias for order in orders]
    return Linear.joined([taken[0], *weights, taken[1]], [*halves[:1], *biases, *halves[1:]])


def _heads(parameters: Parameters, model: ModelConfig, config: AttentionConfig, name: str) -> Heads:
    q_norm, k_norm = (
        scale(parameters, f"{name}.{part}.weight", config.head_dim, model.norm)
        if config.qk_norm == "head"
        else None
        for part in (config.query_norm, config.key_norm)
    )
    sinks = (
        parameters.vector(f"{name}.sinks", config.heads, dtype=mx.float32) if config.sinks else None
    )
    return Heads(
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.scale,
        config.head_dim,
        config.window,
        softcap=config.softcap,
        sinks=sinks,
        q_norm=q_norm,
        k_norm=k_norm,
        eps=model.norm.eps,
        interleaved=config.interleaved,
    )


def _joint_norms(
    parameters: Parameters, model: ModelConfig, config: AttentionConfig, name: str
) -> tuple[JointNorm, JointNorm] | None:
    def norm(part: str, count: int) -> JointNorm:
        weight, dim, eps = f"{name}.{part}.weight", config.head_dim, model.norm.eps
        if config.qk_norm == "all":
            return Norm(scale(parameters, weight, count * dim, model.norm), eps)
        return HeadNorms(parameters.vector(weight, count, dim), eps)

    if config.qk_norm not in ("all", "centred"):
        return None
    return norm(config.query_norm, config.heads), norm(config.key_norm, config.kv_heads)
