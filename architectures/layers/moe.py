"""A feed-forward layer of experts: the router's choice, and the chosen ones' sum."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.linear import Dense, Quantized, Weight
from ...kernels.moe import Experts, moe, pack_experts
from ...kernels.route import Router, route
from ..config import ModelConfig
from ..parameters import Parameters
from .linear import Linear, join


@dataclass(frozen=True, slots=True)
class MoE:
    logits: Linear
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
            Linear.load(parameters, [(f"{name}.gate", mixture.count)], hidden, False),
            Router(mixture.per_token, normalise=mixture.normalise),
            Experts(mixture.count, gate, up, down),
        )

    def __call__(self, x: mx.array, residual: mx.array) -> mx.array:
        chosen, weights = route(self.logits(x), self.router)
        return moe(x, self.experts, chosen, weights, residual)


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
