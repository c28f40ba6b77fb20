"""BERT with rotary positions and gated feed-forward layers: Nomic's, and Alibaba's GTE."""

from dataclasses import dataclass

from .config import NormConfig
from .encoder_config import (
    Activation,
    ClassifierConfig,
    EncoderConfig,
    Names,
    Seen,
    classifies,
    gate,
    head_count,
    labels,
)
from .fields import Fields
from .read import read_quantization
from .rope import read_rope

NOMIC = Names(
    layers="encoder.layers",
    projections=("attn.Wqkv",),
    attended="attn.out_proj",
    attention_norm="norm1",
    up=("mlp.fc12", "mlp.fc11"),
    down="mlp.fc2",
    feed_forward_norm="norm2",
    embedding_norm="emb_ln",
)
GTE = Names(
    layers="encoder.layer",
    projections=("attention.qkv_proj",),
    attended="attention.o_proj",
    attention_norm="attn_ln",
    up=("mlp.up_gate_proj",),
    down="mlp.down_proj",
    feed_forward_norm="mlp_ln",
    gate_last=True,
)
KEYS = {
    "hidden": "hidden_size",
    "width": "intermediate_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "context": "max_position_embeddings",
    "eps": "layer_norm_eps",
    "theta": "rope_theta",
}
# As GPT-2 calls them, and so the first files of Nomic's.
NOMIC_KEYS = {
    "hidden": "n_embd",
    "width": "n_inner",
    "heads": "n_head",
    "layers": "n_layer",
    "context": "n_positions",
    "eps": "layer_norm_epsilon",
    "theta": "rotary_emb_base",
}
# What the models' own first code could do besides, and what is built.
ONLY = {
    "causal": False,
    "is_decoder": False,
    "layer_norm_type": "layer_norm",
    "logn_attention_scale": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "parallel_block": False,
    "position_embedding_type": "rope",
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "use_rms_norm": False,
}
# Dropouts, what is only faster, what training needed.
IGNORED = (
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "dense_seq_output",
    "fused_bias_fc",
    "fused_dropout_add_ln",
    "mask_token_id",
    "max_trained_positions",
    "pack_qkv",
    "pad_vocab_size_multiple",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "tie_word_embeddings",
    "unk_token_id",
    "unpad_inputs",
    "use_flash_attn",
    "use_memory_efficient_attention",
    "use_xentropy",
)
UNUSED = (r"pooler\..*", r"cls\..*", r"lm_head\..*")


@dataclass(frozen=True, slots=True)
class Variant:
    """What a model_type has of its own; `types`, `theta`, `act` where its config says nothing."""

    names: Names
    bias: bool
    types: int
    theta: float
    act: str


VARIANTS = {
    "nomic_bert": Variant(NOMIC, bias=False, types=2, theta=1000.0, act="silu"),
    "gte": Variant(GTE, bias=True, types=1, theta=160_000.0, act="gelu"),
}
GATED: dict[str, Activation] = {
    "swiglu": "silu",
    "geglu": "gelu",
}  # the names of Nomic's first files


def configure(fields: Fields) -> EncoderConfig:
    variant = VARIANTS[fields.raw["model_type"]]
    keys = NOMIC_KEYS if "n_embd" in fields else KEYS
    for name, value in ONLY.items():
        fields.expect(name, value)
    fields.ignore(*IGNORED)
    hidden, layers = fields.integer(keys["hidden"]), fields.integer(keys["layers"], most=1000)
    heads = head_count(fields, keys["heads"], hidden)
    fields.expect("head_dim", hidden // heads)
    theta = fields.number(keys["theta"], variant.theta)
    seen = Seen(rope=read_rope(fields, hidden // heads, theta=theta))
    return EncoderConfig(
        model_type=fields.raw["model_type"],
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        width=fields.integer(keys["width"]),
        heads=heads,
        context=fields.integer(keys["context"], 8192),
        layers=(seen,) * layers,
        norm=NormConfig(fields.number(keys["eps"], 1e-12), "layer", bias=True),
        activation=_gate(fields, variant),
        names=variant.names,
        quantization=read_quantization(fields),
        gated=True,
        attention_bias=variant.bias,
        up_bias=False,
        down_bias=variant.bias,
        types=fields.integer("type_vocab_size", variant.types, least=0),
        pairs=True,
        classifier=_classifier(fields),
        renames=((r"^(nomic_bert|gte|new)\.", ""),),
        unused=UNUSED,
    )


def _gate(fields: Fields, variant: Variant) -> Activation:
    if "activation_function" not in fields:
        return gate(fields, "hidden_act", variant.act)
    return GATED[fields.choice("activation_function", GATED, "swiglu")]


def _classifier(fields: Fields) -> ClassifierConfig | None:
    if not classifies(fields):
        return None
    return ClassifierConfig(labels(fields), "pooler.dense", "classifier")
