"""ModernBERT (arXiv 2412.13663): norms first, rotary positions, most layers see a window."""

from .bert import KEYS
from .config import NormConfig
from .encoder_config import (
    ClassifierConfig,
    EncoderConfig,
    LayerKind,
    Names,
    activation,
    classifier,
    gate,
    sizes,
)
from .fields import Fields
from .read import FULL, SLIDING, layer_kinds
from .rope import read_rope

NAMES = Names(
    layers="layers",
    projections=("attn.Wqkv",),
    attended="attn.Wo",
    attention_norm="attn_norm",
    up=("mlp.Wi",),
    down="mlp.Wo",
    feed_forward_norm="mlp_norm",
    tokens="embeddings.tok_embeddings",
    embedding_norm="embeddings.norm",
    final_norm="final_norm",
)
UNUSED = (r"head\..*", r"decoder\..*")  # of the masked word's model
THETAS = {FULL: ("global_rope_theta", 160_000.0), SLIDING: ("local_rope_theta", 10_000.0)}
# Dropouts, how training began and how its loss was taken; what other encoders' configs have.
IGNORED = """
attention_dropout cls_token_id decoder_bias deterministic_flash_attn global_attn_every_n_layers
global_rope_theta initializer_cutoff_factor layer_norm_eps local_rope_theta mask_token_id
mlp_dropout position_embedding_type reference_compile repad_logits_with_grad
sbert_ce_default_activation_function sentence_transformers sparse_pred_ignore_index
sparse_prediction tie_word_embeddings unk_token_id
"""


def configure(fields: Fields) -> EncoderConfig:
    fields.ignore(*IGNORED.split())
    alike = sizes(fields, KEYS)
    norm = NormConfig(
        fields.number("norm_eps", 1e-5), "layer", bias=fields.flag("norm_bias", False)
    )
    head = _classifier(fields)
    return EncoderConfig(
        context=fields.integer("max_position_embeddings", 8192),
        layers=_layers(fields, alike["hidden_size"] // alike["heads"]),
        norm=norm,
        activation=gate(fields, "hidden_activation"),
        names=NAMES,
        gated=True,
        pre_norm=True,
        attention_bias=fields.flag("attention_bias", False),
        up_bias=fields.flag("mlp_bias", False),
        down_bias=fields.flag("mlp_bias", False),
        classifier=head,
        renames=((r"^model\.", ""),),
        unused=UNUSED if head is None else (),
        **alike,
    )


def _layers(fields: Fields, head_dim: int) -> tuple[LayerKind, ...]:
    """Read the layers' kinds; every third sees all, unless the config says otherwise."""
    if head_dim % 2:
        raise fields.refuse("num_attention_heads", "one that gives heads an even size")
    every = fields.integer("global_attn_every_n_layers", 3)
    kinds = layer_kinds(fields, (FULL, SLIDING), lambda layer: SLIDING if layer % every else FULL)
    windows = {FULL: None, SLIDING: fields.integer("local_attention", 128, minimum=0) // 2}
    layer_kind = {}
    for kind in dict.fromkeys(kinds):
        name, default = THETAS[kind]
        theta = fields.number(name, default)
        layer_kind[kind] = LayerKind(
            windows[kind], read_rope(fields, head_dim, layers=kind, theta=theta)
        )
    return tuple(layer_kind[kind] for kind in kinds)


def _classifier(fields: Fields) -> ClassifierConfig | None:
    pooling = fields.choice("classifier_pooling", ("cls", "mean"), "cls")
    bias = fields.flag("classifier_bias", False)
    return classifier(
        fields,
        "head.dense",
        "classifier",
        activation=activation(fields, "classifier_activation"),
        pooling=pooling,
        dense_bias=bias,
        norm="head.norm",
    )
