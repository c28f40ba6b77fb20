"""What a model computes, as one frozen ModelConfig to which all vendors' spellings lead."""

from dataclasses import dataclass, field
from typing import Literal

from .feed_forward_config import Activation, FeedForwardConfig, MoeConfig, ParallelConfig
from .recipe import Recipe
from .storage import MlxLm, Quantization


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
    rotated_dims: int = 0  # of `proportional`, where the others stay as they are

    @property
    def varies(self) -> bool:
        """True if its angles depend on how long a sequence may become (its max_len)."""
        return self.kind in ("longrope", "dynamic")


@dataclass(frozen=True, slots=True)
class NormConfig:
    """`root` divides by the root mean square, `layer` also takes the mean away.

    `zero_centred` weights are stored less 1, unless MLX's conversion has added it: it has where the
    weight of the convolution `conversion_mark` is stored in MLX's layout.
    """

    eps: float
    kind: Literal["root", "layer"] = "root"
    zero_centred: bool = False
    conversion_mark: str | None = None
    bias: bool = False
    weight: bool = True


@dataclass(frozen=True, slots=True)
class Paged:
    """A layer's cache of each token's key and value; value_dim 0: a key begins with its value."""

    kv_heads: int
    head_dim: int
    value_dim: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A layer's cache of float32 arrays of these shapes, for each sequence."""

    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """Attention of queries, keys and values.

    `qk_norm` takes each head by itself, or all heads as one vector; `centred` each head by itself,
    with its mean taken away and a weight of its own. `gated`: what is attended is multiplied by the
    sigmoid of as many more outputs of q_proj, head by head. Queries at position p are multiplied by
    1 + attention_temperature * ln(1 + p // temperature_from) (Llama 4's scheme).
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
        """The width of the widest array that the layer makes of a row, in numbers."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class SharingConfig:
    """Attention whose values are normalised too, and whose keys and values blocks may share.

    `source` is the block whose keys and values several take; it `shares_kv` if it is that block
    itself. With `keys_as_values` a value is its key before its norm and its rotation.
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
    eps: float = 1e-6  # of the latents' norms

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
        """The convolution's channels: queries, keys, values."""
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
        """The convolution's channels: values, B, C."""
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


AnyAttentionConfig = AttentionConfig | SharingConfig | LatentConfig
MixerConfig = AnyAttentionConfig | DeltaConfig | SsmConfig | ConvConfig


@dataclass(frozen=True, slots=True)
class BlockNames:
    """The names of a block's parts, below the block's name; None: it has no such norm.

    Norms are before and after each of the two parts; in parallel, both take the first norm. At
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
    """Embeddings of tokens for each layer: `width` numbers gate what the block adds last."""

    vocab_size: int
    width: int
    activation: Activation


@dataclass(frozen=True, slots=True)
class AltUpConfig:
    """Several streams of hidden states, of which the `active` one is computed (Gemma 3n).

    `rank` is the width of the path parallel to attention (Laurel).
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
        """The width of the widest array that one of its layers makes of a row, in numbers."""
        layers = (self.mixer, self.feed_forward)
        return max(layer.row_width for layer in layers if layer is not None)

    @property
    def experts(self) -> MoeConfig | None:
        layer = self.feed_forward
        layer = layer.sparse if isinstance(layer, ParallelConfig) else layer
        return layer if isinstance(layer, MoeConfig) else None

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of router and shared expert's gate, below the block's name."""
        experts, name = self.experts, self.names.feed_forward
        if experts is None:
            return ()
        if isinstance(self.feed_forward, ParallelConfig):
            return (experts.router,)
        return (f"{name}.{experts.router}", f"{name}.shared_expert_gate")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that a model's mathematics depends on.

    Names are those that mlx_lm gives to weights; `renames` are the patterns and replacements that
    lead there from Hugging Face's, `unused` the patterns of tensors that belong to what is not run
    (a vision tower, layers that predict further tokens). `recipe` is how its rerankers are asked.
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
    bidirectional: bool = False  # tokens see later ones too: it embeds text
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
        """The cache of each block, None where it has none."""
        return tuple(None if b.mixer is None else b.mixer.cache for b in self.blocks)

    @property
    def cache_index(self) -> tuple[int, ...]:
        """The block whose cache each block attends to: itself, unless it reuses another's."""
        mixers = [block.mixer for block in self.blocks]
        return tuple(
            m.source if isinstance(m, SharingConfig) and m.source is not None else layer
            for layer, m in enumerate(mixers)
        )

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The distinct windows of paged layers, widest first (None: all): the cache's groups."""
        windows = {cache.window for cache in self.caches if isinstance(cache, Paged)}
        return tuple(sorted(windows, key=lambda window: -(window or 1 << 62)))

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """The distinct rotary positions of the blocks, in their order."""
        mixers = (block.mixer for block in self.blocks)
        ropes = (mixer.rope for mixer in mixers if isinstance(mixer, AnyAttentionConfig))
        return tuple(dict.fromkeys(rope for rope in ropes if rope is not None))
