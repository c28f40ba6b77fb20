"""One layer of DeepSeek-V2's shape put together from our operations, to count what it launches."""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from bessemer.bench.kernels.workload import Arrays, Demand, Dimensions
from bessemer.kernels.attention.latent_attention import latent_attention
from bessemer.kernels.attention.pages import Append, Format, Heads, Layout, zeros
from bessemer.kernels.attention.rope import rope_table_reference
from bessemer.kernels.linear.head_linear import head_linear
from bessemer.kernels.linear.linear import linear
from bessemer.kernels.linear.linear_mlx import Epilogue
from bessemer.kernels.linear.weight import Dense, Quantized
from bessemer.kernels.moe.moe import Experts, Shared, moe
from bessemer.kernels.moe.route import Gate, Routing, choose
from bessemer.kernels.norm.rms_norm import Norm

EPS = 1e-6


@dataclass(frozen=True, slots=True)
class LatentLayerWeights:
    """The random weights of one layer."""

    norm: Norm
    query_latent: Dense | Quantized  # queries of all heads, the latent, its rotary part
    absorb: Dense | Quantized  # from a head's query to the latent space
    expand: Dense | Quantized  # and back to its value
    output: Dense | Quantized
    gate: Dense | Quantized
    experts: Experts

    @classmethod
    def random(cls, model: Dimensions) -> "LatentLayerWeights":
        arrays = Arrays(Demand(model), np.random.default_rng(0))
        query = model.heads * (model.head_dim + model.latent_rope)
        few = 4  # how many experts there are changes no count
        shared = model.shared_experts * model.expert_width
        weights = cls(
            Norm(arrays.normal(model.hidden), EPS),
            arrays.weight(query + model.latent + model.latent_rope, model.hidden),
            arrays.weight(model.heads * model.latent, model.head_dim),
            arrays.weight(model.heads * model.latent_value, model.latent),
            arrays.weight(model.hidden, model.heads * model.latent_value),
            Dense(arrays.normal(few, model.hidden)),
            Experts(
                few,
                arrays.weight(few * model.expert_width, model.hidden),
                arrays.weight(few * model.expert_width, model.hidden),
                arrays.weight(few * model.hidden, model.expert_width),
                shared=Shared(
                    arrays.weight(2 * shared, model.hidden), arrays.weight(model.hidden, shared)
                ),
            ),
        )
        mx.eval(weights.norm.weight)
        return weights


def step(model: Dimensions, layout: Layout) -> Callable[[mx.array], mx.array]:
    """Return what takes a token's (1, hidden) activations through the layer."""
    weights = LatentLayerWeights.random(model)
    dim = model.latent + model.latent_rope
    heads = Heads(
        *(model.heads, 1, dim, (model.head_dim + model.latent_rope) ** -0.5, model.latent),
        k_norm=mx.ones((model.latent,)),
        eps=EPS,
        interleaved=True,
        rope_offset=model.latent,
    )
    pages = zeros(layout.tables.shape[1] + 1, 1, dim, 0, Format.FLOAT16, Append.TAIL)
    table = rope_table_reference(layout.positions, mx.ones((model.latent_rope // 2,)), 1.0)
    mx.eval(heads.k_norm, pages.arrays, table.cos, table.sin)
    cut = model.heads * (model.head_dim + model.latent_rope)

    def run(x: mx.array) -> mx.array:
        joined = linear(x, weights.query_latent, norm=weights.norm)
        q = head_linear(joined[:, :cut], weights.absorb, model.heads, model.latent_rope)
        attended, _ = latent_attention(q, joined[:, cut:], heads, table, pages, layout)
        values = head_linear(attended, weights.expand, model.heads)
        x = linear(values, weights.output, Epilogue(residual=x))
        chosen, shares = choose(x, Gate(weights.gate), Routing(2), weights.norm)
        return moe(x, weights.experts, (chosen, shares), x, weights.norm)

    return run
