"""What a model computes, as one frozen ModelConfig in which all vendors' spellings end."""

from dataclasses import dataclass, field
from typing import Literal

from .recipe import Recipe
from .storage import MlxLm, Quantization

Activation = Literal["silu", "gelu", "gelu_tanh", "swiglu_clamped", "relu2"]


class ConfigError(ValueError):
    """A config.json that this version cannot follow; the message names the field and its value."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions of a head's `dims` dimensions; what `kind` does not use keeps its default.

    `context` is the config's longest, beyond which `dynamic` begins to stretch.
    """

    dims: int
    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    original_context: int = 0
    low: float = 1.0
    high: float = 4.0
    fast: float = 32.0
    slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    long_attention_factor: float | None = None  # where it is another in long sequences
    context: int = 0
    rotated_dims: int = 0  # dimensions that do, of `proportional`

    @property
    def varies(self) -> bool:
        """Whether a token's turn depends on how long its sequence may become (its reach)."""
        return self.kind in ("longrope", "dynamic")


@dataclass(frozen=True, slots=True)
class NormConfig:
    """`root` divides by the root mean square, `layer` also takes the mean away.

    `zero_centred` weights are stored less 1, unless MLX's conversion has added it: it has where the
    weight of the convolution `turned` is stored the other way round.
    """

    eps: float
    kind: Literal["root", "layer"] = "root"
    zero_centred: bool = False
    conversion_mark: str | None = None
    bias: bool = False
    weight: bool = True


@dataclass(frozen=True, slots=True)
class Paged:
    """What a layer keeps: each token's key and value; value_dim 0: a value begins its key."""

    kv_heads: int
    head_dim: int
    value_dim: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Recurrent:
    """What a layer keeps: float32 arrays of these shapes, for each sequence."""

    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """Attention of queries, keys and values.

    `qk_norm`: of each head by itself, or of all heads as one vector; `centred`: of each head by
    itself, with its mean taken away and a weight of its own. `gated`: what is attended is
    multiplied by the sigmoid of as many more outputs of q_proj, head by head. A row at a position
    from `temper_from` on has its queries multiplied by 1 + temper * ln(1 + position // temper_from)
    (Llama 4's scheme).
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rope: Rope | None = None
    window: int | None = None
    softcap: float | None = None
    interleaved: bool = False
    sinks: bool = False
    gated: bool = False
    bias: bool = False
    output_bias: bool = False
    output: str = "o_proj"
    qk_norm: Literal["head", "all", "centred"] | None = None
    attention_temperature: float = 0.0
    temperature_from: int = 0
    query_norm: str = "q_norm"
    key_norm: str = "k_norm"

    @property
    def cache(self) -> Paged:
        return Paged(self.kv_heads, self.head_dim, self.head_dim, self.window)

    @property
    def row_width(self) -> int:
        """Numbers of the widest that the layer makes of a row."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class SharingConfig:
    """Attention whose values are normalised too, and whose keys and values blocks may share.

    `source` is the block whose keys and values several take: its own number if it `lends` them.
    With `keys_as_values` a value is its key before that is normalised and turned.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope
    window: int | None = None
    bias: bool = False
    keys_as_values: bool = False
    source: int | None = None
    shares_kv: bool = False

    @property
    def reuses_kv(self) -> bool:
        return self.source is not None and not self.shares_kv

    @property
    def cache(self) -> Paged | None:
        if self.reuses_kv:
            return None
        return Paged(self.kv_heads, self.head_dim, self.head_dim, self.window)

    @property
    def row_width(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class LatentConfig:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values from a latent.

    `query_rank` 0: queries come straight from the layer's input.
    """

    heads: int
    query_rank: int
    rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    scale: float
    rope: Rope
    interleaved: bool = True
    bias: bool = False
    eps: float = 1e-6  # of the norms of latents

    @property
    def cache(self) -> Paged:
        return Paged(1, self.rank + self.rope_dim, 0)

    @property
    def row_width(self) -> int:
        return self.heads * (self.rank + self.rope_dim)


@dataclass(frozen=True, slots=True)
class DeltaConfig:
    """The gated delta rule behind a short convolution (Qwen3-Next)."""

    key_heads: int
    heads: int
    key_dim: int
    value_dim: int
    width: int  # of the convolution

    @property
    def channels(self) -> int:
        """Of the convolution: queries, keys, values."""
        return 2 * self.key_heads * self.key_dim + self.heads * self.value_dim

    @property
    def cache(self) -> Recurrent:
        return Recurrent(
            ((self.width - 1, self.channels), (self.heads, self.key_dim, self.value_dim))
        )

    @property
    def row_width(self) -> int:
        return self.channels


@dataclass(frozen=True, slots=True)
class SsmConfig:
    """Mamba 2 (arXiv 2405.21060): a selective state space behind a short convolution.

    `min_step` and `max_step` bound the time step; the norm before the output projection takes each
    of `norm_groups` parts by itself, and has the gate in it.
    """

    heads: int
    head_dim: int
    groups: int
    state: int
    width: int  # of the convolution
    min_step: float
    max_step: float
    norm_groups: int
    bias: bool = False
    conv_bias: bool = True

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def channels(self) -> int:
        """Of the convolution: values, B, C."""
        return self.inner + 2 * self.groups * self.state

    @property
    def cache(self) -> Recurrent:
        return Recurrent(((self.width - 1, self.channels), (self.heads, self.head_dim, self.state)))

    @property
    def row_width(self) -> int:
        return self.channels


@dataclass(frozen=True, slots=True)
class ConvConfig:
    """LFM2's gated short convolution."""

    channels: int
    width: int
    bias: bool = False

    @property
    def cache(self) -> Recurrent:
        return Recurrent(((self.width - 1, self.channels),))

    @property
    def row_width(self) -> int:
        return 3 * self.channels


@dataclass(frozen=True, slots=True)
class MlpConfig:
    """A feed-forward layer; `gated` has a gate beside the up projection, as silu(gate) * up.

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
    takes sigmoid(gate) of the shared part. `shared` names its module, within the experts' own or,
    if `beside`, next to it; it has a gate_proj and an up_proj, or both in `shared_joint`, and
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
        """Where a joint matrix of an expert has its gate, and where the rest."""
        if self.alternating:
            return slice(0, None, 2), slice(1, None, 2)
        return slice(0, self.width), slice(self.width, None)


AnyAttentionConfig = AttentionConfig | SharingConfig | LatentConfig
MixerConfig = AnyAttentionConfig | DeltaConfig | SsmConfig | ConvConfig


@dataclass(frozen=True, slots=True)
class ParallelFeedForwardConfig:
    """A feed-forward layer and experts side by side, with norms of their own (Gemma 4)."""

    dense: MlpConfig
    sparse: MoeConfig

    @property
    def row_width(self) -> int:
        return self.dense.row_width + self.sparse.row_width


FeedForwardConfig = MlpConfig | MoeConfig | ParallelFeedForwardConfig


@dataclass(frozen=True, slots=True)
class BlockNames:
    """The names of a block's parts, below the block's own; None: it has no such norm.

    Norms are before and after each of the two parts; `parallel` gives the first norm to both. At
    the end all is multiplied by the number that `factor` names.
    """

    mixer: str = "self_attn"
    feed_forward: str = "mlp"
    before_mixer: str | None = "input_layernorm"
    after_mixer: str | None = None
    before_feed_forward: str | None = "post_attention_layernorm"
    after_feed_forward: str | None = None
    parallel: bool = False
    factor: str | None = None


PRE = BlockNames()
SANDWICH = BlockNames(
    after_mixer="post_attention_layernorm",
    before_feed_forward="pre_feedforward_layernorm",
    after_feed_forward="post_feedforward_layernorm",
)
POST = BlockNames(
    before_mixer=None,
    after_mixer="post_attention_layernorm",
    before_feed_forward=None,
    after_feed_forward="post_feedforward_layernorm",
)
PARALLEL = BlockNames(before_feed_forward=None, parallel=True)


@dataclass(frozen=True, slots=True)
class PerLayerConfig:
    """Each layer's own embedding of a token, `width` numbers that gate what the block adds last."""

    vocab_size: int
    width: int
    activation: Activation


@dataclass(frozen=True, slots=True)
class AltUpConfig:
    """Several streams of hidden states, of which the `active` one is computed (Gemma 3n).

    `rank` is of the path beside attention.
    """

    streams: int
    active: int
    rank: int
    scaled: bool


@dataclass(frozen=True, slots=True)
class BlockConfig:
    mixer: MixerConfig | None
    feed_forward: FeedForwardConfig | None
    names: BlockNames = PRE

    @property
    def row_width(self) -> int:
        """Numbers of the widest that one of its layers makes of a row."""
        layers = (self.mixer, self.feed_forward)
        return max(layer.row_width for layer in layers if layer is not None)

    @property
    def experts(self) -> MoeConfig | None:
        layer = self.feed_forward
        layer = layer.sparse if isinstance(layer, ParallelFeedForwardConfig) else layer
        return layer if isinstance(layer, MoeConfig) else None

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of what chooses experts or opens the shared part, below the block's own."""
        own, name = self.experts, self.names.feed_forward
        if own is None:
            return ()
        if isinstance(self.feed_forward, ParallelFeedForwardConfig):
            return (own.router,)
        return (f"{name}.{own.router}", f"{name}.shared_expert_gate")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that the mathematics of a model depends on.

    Names are those that mlx_lm gives to weights; `renames` are the patterns and replacements that
    lead there from Hugging Face's, `unused` the patterns of tensors that belong to what is not run
    (a vision tower, layers that predict further tokens). `recipe`: of its rerankers.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    context: int
    blocks: tuple[BlockConfig, ...]
    norm: NormConfig
    tied: bool
    quantization: Quantization = field(default_factory=Quantization)
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    head_bias: bool = False
    per_layer: PerLayerConfig | None = None
    altup: AltUpConfig | None = None
    bidirectional: bool = False  # tokens see those after them too: it embeds text
    model: str = "model"  # the module that holds embeddings, layers and norm
    head: str = "lm_head"
    embed: str = "embed_tokens"
    final_norm: str = "norm"
    renames: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    mlx_lm: MlxLm = field(default_factory=MlxLm)
    recipe: Recipe | None = None

    @property
    def layers(self) -> int:
        return len(self.blocks)

    @property
    def caches(self) -> tuple[Paged | Recurrent | None, ...]:
        """What each block keeps of a sequence."""
        return tuple(None if b.mixer is None else b.mixer.cache for b in self.blocks)

    @property
    def cache_index(self) -> tuple[int, ...]:
        """For each block the one that keeps what it attends to: itself, unless it borrows."""
        mixers = [block.mixer for block in self.blocks]
        return tuple(
            m.source if isinstance(m, SharingConfig) and m.source is not None else layer
            for layer, m in enumerate(mixers)
        )

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The distinct windows of paged layers, widest first (None: all): the cache's groups."""
        found = {cache.window for cache in self.caches if isinstance(cache, Paged)}
        return tuple(sorted(found, key=lambda window: -(window or 1 << 62)))

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """The distinct rotary positions of the blocks, in their order."""
        mixers = (block.mixer for block in self.blocks)
        found = (mixer.rope for mixer in mixers if isinstance(mixer, AnyAttentionConfig))
        return tuple(dict.fromkeys(rope for rope in found if rope is not None))
