"""A feed-forward layer of experts: the router's choice, and the chosen ones' sum."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...kernels.linear.linear import linear
from ...kernels.linear.rows import gated_add
from ...kernels.linear.weight import Dense, Quantized, pack, storage, take_rows, widen
from ...kernels.moe.moe import Experts, Shared, moe, pack_experts
from ...kernels.moe.route import Gate, Picks, Routing, choose
from ...kernels.norm.rms_norm import Norm, once
from ..config import MlpConfig, ModelConfig, MoeConfig
from ..parameters import Parameters
from .linear import Linear, join
from .mlp import MLP, AnyMLP
from .norm import AnyNorm, fused

Stored = Dense | Quantized


@dataclass(frozen=True, slots=True)
class MoE:
    gate: Gate
    router: Routing
    experts: Experts
    apart: "Apart | None" = None

    @classmethod
    def load(cls, parameters: Parameters, config: ModelConfig, own: MoeConfig, name: str) -> "MoE":
        count, hidden = own.count, config.hidden_size
        router = f"{name}.{own.router}"
        correction = f"{name}.{own.correction}" if own.correction else None
        joined = own.shared_width and not own.latent
        shared = _shared(parameters, config, own, name) if joined else None
        return cls(
            Gate(
                pack(parameters.matrix(router, count, hidden)),
                _float(parameters, f"{router}.bias", count) if own.router_bias else None,
                _float(parameters, correction, count) if correction else None,
            ),
            Routing(
                own.per_token,
                own.scoring,
                own.normalise,
                own.scale,
                own.groups,
                own.kept_groups,
                own.group_score,
                own.jitter,
            ),
            _experts(parameters, config, own, name, shared if isinstance(shared, Shared) else None),
            shared if isinstance(shared, Apart) else None,
        )

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """The layer of norm(x), plus the residual."""
        x, norm = once(*fused(x, norm))
        picks = self.choose(x, norm)
        if self.apart is not None:
            residual = self.apart(x, norm, residual)
        return moe(x, self.experts, picks, residual, norm)

    def choose(self, x: mx.array, norm: Norm | None) -> Picks:
        """The experts of each token of norm(x), and their weights."""
        return choose(x, self.gate, self.router, norm)


@dataclass(frozen=True, slots=True)
class Apart:
    """Shared experts whose gate and up are stored in different ways: a layer of their own.

    open: as in kernels.moe.Shared.
    """

    layer: MLP
    open: mx.array | None

    def __call__(self, x: mx.array, norm: Norm | None, residual: mx.array | None) -> mx.array:
        """What norm(x) gets of them, plus the residual."""
        if self.open is None:
            return self.layer(x, norm, residual)
        x = x if norm is None else norm(x)
        return gated_add(self.layer(x, None, None), linear(x, Dense(self.open)), residual)


@dataclass(frozen=True, slots=True)
class LatentMoE:
    """Experts of a narrower space than that in which they are chosen (Nemotron 3 Super)."""

    routed: MoE
    into: Linear
    back: Linear
    shared: AnyMLP | None

    @classmethod
    def load(
        cls, parameters: Parameters, config: ModelConfig, own: MoeConfig, name: str
    ) -> "LatentMoE":
        hidden = config.hidden_size
        shared = MlpConfig(own.shared_width, own.activation, own.gated)
        return cls(
            MoE.load(parameters, config, own, name),
            Linear.load(parameters, [(f"{name}.fc1_latent_proj", own.latent)], hidden, bias=False),
            Linear.load(parameters, [(f"{name}.fc2_latent_proj", hidden)], own.latent, bias=False),
            MLP.load(parameters, config, shared, f"{name}.{own.shared}")
            if own.shared_width
            else None,
        )

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """The layer of norm(x), plus the residual."""
        x = x if norm is None else norm(x)
        y = moe(self.into(x), self.routed.experts, self.routed.choose(x, None))
        return self.back(y, residual if self.shared is None else self.shared(x, None, residual))


def _experts(
    parameters: Parameters, config: ModelConfig, own: MoeConfig, name: str, shared: Shared | None
) -> Experts:
    hidden = own.latent or config.hidden_size
    gate, up = _gate_up(parameters, own, name, hidden)
    down = _stacked(parameters, own, name, own.down, hidden, own.width)
    return Experts(
        own.count,
        None if gate is None else pack_experts(gate, own.count),
        pack_experts(up, own.count),
        pack_experts(down, own.count),
        *_biases(parameters, own, name, hidden),
        activation=own.activation,
        limit=own.limit,
        shared=shared,
    )


def _gate_up(
    parameters: Parameters, own: MoeConfig, name: str, hidden: int
) -> tuple[Stored | None, Stored]:
    """Two stacks, or one whose matrices have the gate's rows and the others."""
    count, width = own.count, own.width
    joint = parameters.stack(f"{name}.experts.gate_up_proj", count, 2 * width, hidden, own.turned)
    if joint is not None:
        rows = np.arange(count * 2 * width).reshape(count, -1)
        gate, up = (take_rows(joint, rows[:, part].reshape(-1)) for part in own.halves)
        return gate, up
    up = _stacked(parameters, own, name, own.up, width, hidden)
    if not own.gated:
        return None, up
    return _stacked(parameters, own, name, "gate_proj", width, hidden), up


def _stacked(
    parameters: Parameters, own: MoeConfig, name: str, part: str, rows: int, columns: int
) -> Stored:
    """As mlx_lm stores experts, as transformers holds them, or one by one."""
    places = ("switch_mlp", "experts", "experts.switch_glu")
    for module in (f"{name}.{place}.{part}" for place in places):
        stacked = parameters.stack(module, own.count, rows, columns, own.turned)
        if stacked is not None:
            return stacked
    modules = [f"{name}.experts.{expert}.{part}" for expert in range(own.count)]
    weights = [parameters.matrix(module, rows, columns) for module in modules]
    for module, weight in zip(modules, weights, strict=True):
        if storage(weight) != storage(weights[0]):
            raise parameters.refuse(module, f"is stored in another way than {modules[0]}")
    (joined,) = join(weights)
    return joined


def _biases(
    parameters: Parameters, own: MoeConfig, name: str, hidden: int
) -> tuple[mx.array | None, mx.array | None, mx.array | None]:
    """Of gate, up and down."""
    if not own.bias:
        return None, None, None
    joint, parts = f"{name}.experts.gate_up_proj_bias", f"{name}.experts"
    if parameters.has(joint):
        both = _float(parameters, joint, own.count, 2 * own.width)
        gate, up = (mx.contiguous(both[:, part]) for part in own.halves)
        mx.eval(gate, up)
        return gate, up, _float(parameters, f"{parts}.down_proj_bias", own.count, hidden)
    if not parameters.has(f"{parts}.gate_proj.bias"):
        parts = f"{name}.switch_mlp"
    sizes = {"gate_proj": own.width, "up_proj": own.width, "down_proj": hidden}
    gate, up, down = (
        _float(parameters, f"{parts}.{part}.bias", own.count, size) for part, size in sizes.items()
    )
    return gate, up, down


def _shared(
    parameters: Parameters, config: ModelConfig, own: MoeConfig, name: str
) -> Shared | Apart:
    hidden, width = config.hidden_size, own.shared_width
    shared = f"{name.rpartition('.')[0] if own.beside else name}.{own.shared}"
    joint = f"{shared}.{own.shared_joint}"
    if parameters.has(f"{joint}.weight"):
        inner = [parameters.matrix(joint, 2 * width, hidden)]
    else:
        parts = ["gate_proj", "up_proj"] if own.gated else ["up_proj"]
        inner = [parameters.matrix(f"{shared}.{part}", width, hidden) for part in parts]
    down = parameters.matrix(f"{shared}.{own.shared_down}", hidden, width)
    opened = None
    if own.shared_gate:
        opened = widen(parameters.matrix(f"{name}.shared_expert_gate", 1, hidden))
        mx.eval(opened)
    gate_up = join(inner)
    if len(gate_up) == 1:
        return Shared(pack(gate_up[0]), pack(down), opened)
    return Apart(MLP(Linear.joined(gate_up), Linear.joined([down]), own.activation), opened)


def _float(parameters: Parameters, name: str, *shape: int) -> mx.array:
    return parameters.vector(name, *shape, dtype=mx.float32)
