"""A feed-forward layer and experts in parallel, each with norms of its own, as in Gemma 4."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.moe.moe import moe
from ...kernels.moe.route import choose
from ...kernels.norm.rms_norm import Norm
from ..config import ModelConfig
from ..feed_forward_config import ParallelConfig
from ..parameters import Parameters
from .mlp import MLP, AnyMLP
from .moe import MoE
from .norm import AnyNorm, fused
from .norm import load as load_norm


@dataclass(frozen=True, slots=True)
class ParallelFeedForward:
    """A dense layer and experts; the router has a norm, and each expert a factor, of its own."""

    dense: AnyMLP
    after_dense: AnyNorm
    router_norm: Norm
    before_sparse: AnyNorm
    sparse: MoE
    after_sparse: AnyNorm
    factors: mx.array  # (experts,) float32

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: ParallelConfig, name: str
    ) -> "ParallelFeedForward":
        block, hidden = name.rpartition(".")[0], model.hidden_size

        def norm(place: str) -> AnyNorm:
            return load_norm(parameters, f"{block}.{place}", hidden, model.norm)

        factors = f"{block}.router.per_expert_scale"
        return cls(
            MLP.load(parameters, model, config.dense, name),
            norm("post_feedforward_layernorm_1"),
            _router_norm(parameters, model, f"{block}.router.scale"),
            norm("pre_feedforward_layernorm_2"),
            MoE.load(parameters, model, config.sparse, block),
            norm("post_feedforward_layernorm_2"),
            parameters.vector(factors, config.sparse.count, dtype=mx.float32),
        )

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """Return both layers of x, plus the residual; the norm is the dense one's alone."""
        dense = self.after_dense(self.dense(x, norm, None))
        chosen, weights = choose(x, self.sparse.gate, self.sparse.router, self.router_norm)
        x, before = fused(x, self.before_sparse)
        picks = chosen, weights * self.factors[chosen]
        sparse = self.after_sparse(moe(x, self.sparse.experts, picks, None, before))
        return dense + sparse if residual is None else dense + sparse + residual


def _router_norm(parameters: Parameters, model: ModelConfig, name: str) -> Norm:
    """Return the norm to the length 1, times what is stored."""
    hidden = model.hidden_size
    weight = parameters.vector(name, hidden, dtype=mx.float32) * hidden**-0.5
    mx.eval(weight)
    return Norm(weight, model.norm.eps)
