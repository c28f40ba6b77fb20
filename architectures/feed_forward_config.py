"""The configs of feed-forward layers: dense, of experts, or both in parallel."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "swiglu_clamped", "relu2"]


@dataclass(frozen=True, slots=True)
class MlpConfig:
    """A feed-forward layer; `gated` has a gate next to the up projection: silu(gate) * up.

    With `cut` a gate counts by how much it is more than so many standard deviations above the mean
    of its token's gates.
    """

    width: int
    activation: Activation = "silu"
    gated: bool = True
    bias: bool = False
    cut: float | None = None
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"

    @property
    def row_width(self) -> int:
        return self.width


@dataclass(frozen=True, slots=True)
class MoeConfig:
    """Experts in place of a feed-forward layer, with a `shared_width` that every token takes.

    `correction` names a tensor added to the scores for the choice alone. `shared_gate`: a token
    takes sigmoid(gate) of the shared part. `shared` names its module, within the experts' or, if
    `shared_outside`, next to it; it has a gate_proj and an up_proj, or both in `shared_joint`, and
    `shared_down`. With `latent` the experts work on so many numbers, to which fc1_latent_proj leads
    and from which fc2_latent_proj leads back.
    """

    count: int
    per_token: int
    width: int
    activation: Activation = "silu"
    gated: bool = True
    limit: float = 7.0
    bias: bool = False
    scoring: Literal["softmax", "sigmoid", "sparsemixer"] = "softmax"
    jitter: float = 0.01  # of `sparsemixer`
    normalise: bool = True  # the weights of a token's experts add up to `scale`
    scale: float = 1.0
    groups: int = 1
    kept_groups: int = 1
    group_score: Literal["best", "best_two"] = "best"
    correction: str | None = None
    router: str = "gate"
    router_bias: bool = False
    up: str = "up_proj"
    down: str = "down_proj"
    alternating: bool = False  # a joint gate_up_proj has the gate in its even rows
    transposed: bool = False  # stacks that are no modules have inputs before outputs
    latent: int = 0
    shared_width: int = 0
    shared_gate: bool = False
    shared: str = "shared_experts"
    shared_joint: str = "gate_up_proj"
    shared_down: str = "down_proj"
    shared_outside: bool = False

    @property
    def row_width(self) -> int:
        return self.per_token * self.width + self.shared_width

    @property
    def halves(self) -> tuple[slice, slice]:
        """The rows of an expert's joint matrix that are its gate, and its up projection."""
        if self.alternating:
            return slice(0, None, 2), slice(1, None, 2)
        return slice(0, self.width), slice(self.width, None)


@dataclass(frozen=True, slots=True)
class ParallelConfig:
    """A feed-forward layer and experts in parallel, each with norms of its own (Gemma 4)."""

    dense: MlpConfig
    sparse: MoeConfig

    @property
    def row_width(self) -> int:
        return self.dense.row_width + self.sparse.row_width


FeedForwardConfig = MlpConfig | MoeConfig | ParallelConfig
