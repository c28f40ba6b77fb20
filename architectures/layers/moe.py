"""A feed-forward layer of experts: the router's choice, and the chosen ones' sum."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.moe import Experts, moe, pack_experts
from ...kernels.rms_norm import Norm
from ...kernels.route import Router, choose
from ...kernels.weight import Dense, Quantized, Weight, pack
from ..config import ModelConfig
from ..parameters import Parameters
from .linear import join


@dataclass(frozen=True, slots=True)
class MoE:
    gate: Weight
    router: Router
    experts: Experts

    @classmethod
    def load(cls, parameters: Parameters, config: ModelConfig, name: str) -> "MoE":
        """The names are Qwen's, as Hugging Face writes them and as mlx_lm does."""
        mixture = config.experts
        assert mixture is not None
        hidden, width = config.hidden_size, mixture.width
        gate, up, down = (
            pack_experts(
                _stack(parameters, name, part, mixture.count, rows, columns), mixture.count
            )
            for part, rows, columns in (
                ("gate_proj", width, hidden),
                ("up_proj", width, hidden),
                ("down_proj", hidden, width),
            )
        )
        return cls(
            pack(parameters.matrix(f"{name}.gate", mixture.count, hidden)),
            Router(mixture.per_token, normalise=mixture.normalise),
            Experts(mixture.count, gate, up, down),
        )

    def __call__(self, x: mx.array, norm: Norm) -> mx.array:
        """x plus the layer of norm(x)."""
        chosen, weights = choose(x, self.gate, self.router, norm=norm)
        return moe(x, self.experts, chosen, weights, x, norm)


def _stack(
    parameters: Parameters, name: str, part: str, count: int, rows: int, columns: int
) -> Weight:
    stacked = parameters.stack(f"{name}.switch_mlp.{part}", count, rows, columns)
    if stacked is not None:
        return stacked
    each: list[Dense | Quantized] = [
        parameters.matrix(f"{name}.experts.{expert}.{part}", rows, columns)
        for expert in range(count)
    ]
    joined = join(each)
    assert len(joined) == 1, f"the experts of {name} are stored in different ways"
    return joined[0]
