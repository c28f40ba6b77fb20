"""A feed-forward layer of experts: the router's choice, and the chosen ones' sum."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...kernels.linear.linear import linear
from ...kernels.linear.rows import gated_add
from ...kernels.linear.weight import Dense, pack, storage, take_rows, widen
from ...kernels.moe.moe import Experts, Shared, moe, pack_experts
from ...kernels.moe.route import Gate, Picks, Routing, choose
from ...kernels.norm.rms_norm import Norm, once
from ..config import ModelConfig
from ..feed_forward_config import MlpConfig, MoeConfig
from ..parameters import Matrix, Parameters
from .linear import Linear, join
from .mlp import MLP, AnyMLP
from .norm import AnyNorm, fused

STACKS = ("switch_mlp", "experts", "experts.switch_glu")  # modules that hold all experts in one


@dataclass(frozen=True, slots=True)
class MoE:
    gate: Gate
    router: Routing
    experts: Experts
    shared: "SharedExpert | None" = None

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: MoeConfig, name: str
    ) -> "MoE":
        count, hidden = config.count, model.hidden_size
        router = f"{name}.{config.router}"
        correction = f"{name}.{config.correction}" if config.correction else None
        joined = config.shared_width and not config.latent
        shared = _shared(parameters, model, config, name) if joined else None
        return cls(
            Gate(
                pack(parameters.matrix(router, count, hidden)),
                _float(parameters, f"{router}.bias", count) if config.router_bias else None,
                _float(parameters, correction, count) if correction else None,
            ),
            Routing(
                config.per_token,
                config.scoring,
                config.normalise,
                config.scale,
                config.groups,
                config.kept_groups,
                config.group_score,
                config.jitter,
            ),
            _experts(parameters, model, config, name, shared),
            shared if isinstance(shared, SharedExpert) else None,
        )

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """Return the layer of norm(x), plus the residual."""
        x, norm = once(*fused(x, norm))
        picks = self.choose(x, norm)
        if self.shared is not None:
            residual = self.shared(x, norm, residual)
        return moe(x, self.experts, picks, residual, norm)

    def choose(self, x: mx.array, norm: Norm | None) -> Picks:
        """Choose the experts of each token of norm(x), and their weights."""
        return choose(x, self.gate, self.router, norm)


@dataclass(frozen=True, slots=True)
class SharedExpert:
    """Shared experts whose gate and up are stored in different ways: a layer of their own.

    gate: as `open` of kernels.moe.Shared.
    """

    layer: MLP
    gate: mx.array | None

    def __call__(self, x: mx.array, norm: Norm | None, residual: mx.array | None) -> mx.array:
        """Return what norm(x) gets of them, plus the residual."""
        if self.gate is None:
            return self.layer(x, norm, residual)
        x = x if norm is None else norm(x)
        return gated_add(self.layer(x, None, None), linear(x, Dense(self.gate)), residual)


@dataclass(frozen=True, slots=True)
class LatentMoE:
    """Experts of a narrower space than that in which they are chosen (Nemotron 3 Super)."""

    routed: MoE
    into: Linear
    back: Linear
    shared: AnyMLP | None

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: MoeConfig, name: str
    ) -> "LatentMoE":
        hidden = model.hidden_size
        shared = MlpConfig(config.shared_width, config.activation, config.gated)
        return cls(
            MoE.load(parameters, model, config, name),
            Linear.one(parameters, f"{name}.fc1_latent_proj", config.latent, hidden),
            Linear.one(parameters, f"{name}.fc2_latent_proj", hidden, config.latent),
            MLP.load(parameters, model, shared, f"{name}.{config.shared}")
            if config.shared_width
            else None,
        )

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """Return the layer of norm(x), plus the residual."""
        x = x if norm is None else norm(x)
        y = moe(self.into(x), self.routed.experts, self.routed.choose(x, None))
        return self.back(y, residual if self.shared is None else self.shared(x, None, residual))


def _experts(
    parameters: Parameters,
    model: ModelConfig,
    config: MoeConfig,
    name: str,
    shared: "Shared | SharedExpert | None",
) -> Experts:
    hidden = config.latent or model.hidden_size
    gate, up = _gate_up(parameters, config, name, hidden)
    down = _stacked(parameters, config, name, config.down, hidden, config.width)
    return Experts(
        config.count,
        None if gate is None else pack_experts(gate, config.count),
        pack_experts(up, config.count),
        pack_experts(down, config.count),
        *_biases(parameters, config, name, hidden),
        activation=config.activation,
        limit=config.limit,
        shared=shared if isinstance(shared, Shared) else None,
    )


def _gate_up(
    parameters: Parameters, config: MoeConfig, name: str, hidden: int
) -> tuple[Matrix | None, Matrix]:
    """Read two stacks, or one whose matrices have the gate's rows and the others."""
    count, width = config.count, config.width
    joint = parameters.stack(
        f"{name}.experts.gate_up_proj", count, 2 * width, hidden, config.transposed
    )
    if joint is not None:
        rows = np.arange(count * 2 * width).reshape(count, -1)
        gate, up = (take_rows(joint, rows[:, part].reshape(-1)) for part in config.halves)
        return gate, up
    up = _stacked(parameters, config, name, config.up, width, hidden)
    if not config.gated:
        return None, up
    return _stacked(parameters, config, name, "gate_proj", width, hidden), up


def _stacked(
    parameters: Parameters, config: MoeConfig, name: str, part: str, rows: int, columns: int
) -> Matrix:
    """Read experts as mlx_lm stores them, as transformers holds them, or one by one."""
    for module in (f"{name}.{stack}.{part}" for stack in STACKS):
        stacked = parameters.stack(module, config.count, rows, columns, config.transposed)
        if stacked is not None:
            return stacked
    modules = [f"{name}.experts.{expert}.{part}" for expert in range(config.count)]
    weights = [parameters.matrix(module, rows, columns) for module in modules]
    for module, weight in zip(modules, weights, strict=True):
        if storage(weight) != storage(weights[0]):
            raise parameters.refuse(module, f"is stored in another way than {modules[0]}")
    (joined,) = join(weights)
    return joined


def _biases(
    parameters: Parameters, config: MoeConfig, name: str, hidden: int
) -> tuple[mx.array | None, mx.array | None, mx.array | None]:
    """Read the biases of gate, up and down."""
    if not config.bias:
        return None, None, None
    joint, parts = f"{name}.experts.gate_up_proj_bias", f"{name}.experts"
    if parameters.has(joint):
        both = _float(parameters, joint, config.count, 2 * config.width)
        gate, up = (mx.contiguous(both[:, part]) for part in config.halves)
        mx.eval(gate, up)
        return gate, up, _float(parameters, f"{parts}.down_proj_bias", config.count, hidden)
    if not parameters.has(f"{parts}.gate_proj.bias"):
        parts = f"{name}.switch_mlp"
    sizes = {"gate_proj": config.width, "up_proj": config.width, "down_proj": hidden}
    gate, up, down = (
        _float(parameters, f"{parts}.{part}.bias", config.count, size)
        for part, size in sizes.items()
    )
    return gate, up, down


def _shared(
    parameters: Parameters, model: ModelConfig, config: MoeConfig, name: str
) -> Shared | SharedExpert:
    hidden, width = model.hidden_size, config.shared_width
    shared = f"{name.rpartition('.')[0] if config.shared_outside else name}.{config.shared}"
    joint = f"{shared}.{config.shared_joint}"
    if parameters.has(f"{joint}.weight"):
        inner = [parameters.matrix(joint, 2 * width, hidden)]
    else:
        parts = ["gate_proj", "up_proj"] if config.gated else ["up_proj"]
        inner = [parameters.matrix(f"{shared}.{part}", width, hidden) for part in parts]
    down = parameters.matrix(f"{shared}.{config.shared_down}", hidden, width)
    gate = None
    if config.shared_gate:
        gate = widen(parameters.matrix(f"{name}.shared_expert_gate", 1, hidden))
        mx.eval(gate)
    gate_up = join(inner)
    if len(gate_up) == 1:
        return Shared(pack(gate_up[0]), pack(down), gate)
    return SharedExpert(MLP(Linear.joined(gate_up), Linear.joined([down]), config.activation), gate)


def _float(parameters: Parameters, name: str, *shape: int) -> mx.array:
    return parameters.vector(name, *shape, dtype=mx.float32)
