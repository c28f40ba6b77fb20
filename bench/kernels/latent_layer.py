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
class Weights:
    """Of one layer; all random."""

    norm: Norm
    query_latent: Dense | Quantized  # queries of all heads, the latent, its rotary part
    absorb: Dense | Quantized  # from a head's query to the latent space
    expand: Dense | Quantized  # and back to its value
    output: Dense | Quantized
    gate: Dense | Quantized
    experts: Experts

    @classmethod
    def draw(cls, of: Dimensions) -> "Weights":
        arrays = Arrays(Demand(of), np.random.default_rng(0))
        query = of.heads * (of.head_dim + of.latent_rope)
        few = 4  # how many experts there are changes no count
        shared = of.shared_experts * of.expert_width
        made = cls(
            Norm(arrays.normal(of.hidden), EPS),
            arrays.weight(query + of.latent + of.latent_rope, of.hidden),
            arrays.weight(of.heads * of.latent, of.head_dim),
            arrays.weight(of.heads * of.latent_value, of.latent),
            arrays.weight(of.hidden, of.heads * of.latent_value),
            Dense(arrays.normal(few, of.hidden)),
            Experts(
                few,
                arrays.weight(few * of.expert_width, of.hidden),
                arrays.weight(few * of.expert_width, of.hidden),
                arrays.weight(few * of.hidden, of.expert_width),
                shared=Shared(
                    arrays.weight(2 * shared, of.hidden), arrays.weight(of.hidden, shared)
                ),
            ),
        )
        mx.eval(made.norm.weight)
        return made


def step(of: Dimensions, layout: Layout) -> Callable[[mx.array], mx.array]:
    """What takes a token's (1, hidden) activations through the layer."""
    weights = Weights.draw(of)
    dim = of.latent + of.latent_rope
    heads = Heads(
        *(of.heads, 1, dim, (of.head_dim + of.latent_rope) ** -0.5, of.latent),
        k_norm=mx.ones((of.latent,)),
        eps=EPS,
        interleaved=True,
        rope_offset=of.latent,
    )
    pages = zeros(layout.tables.shape[1] + 1, 1, dim, 0, Format.FLOAT16, Append.TAIL)
    table = rope_table_reference(layout.positions, mx.ones((of.latent_rope // 2,)), 1.0)
    mx.eval(heads.k_norm, pages.arrays, table.cos, table.sin)
    cut = of.heads * (of.head_dim + of.latent_rope)

    def run(x: mx.array) -> mx.array:
        joined = linear(x, weights.query_latent, norm=weights.norm)
        q = joined[:, :cut].reshape(-1, of.heads, of.head_dim + of.latent_rope)
        q = head_linear(q, weights.absorb, of.latent_rope).flatten(1)
        found, _ = latent_attention(q, joined[:, cut:], heads, table, pages, layout)
        values = head_linear(found.reshape(-1, of.heads, of.latent), weights.expand)
        x = linear(values.flatten(1), weights.output, Epilogue(residual=x))
        chosen, shares = choose(x, Gate(weights.gate), Routing(2), weights.norm)
        return moe(x, weights.experts, (chosen, shares), x, weights.norm)

    return run
