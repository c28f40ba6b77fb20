"""Nomic's BERT with rotary positions and gated feed-forward layers, and how its like is read."""

from collections.abc import Mapping
from typing import Any

from .bert import KEYS as BERT_KEYS
from .config import NormConfig
from .encoder_config import Activation, EncoderConfig, LayerKind, Names, classifier, gate, sizes
from .fields import Fields
from .rope import read_rope

NAMES = Names(
    layers="encoder.layers",
    projections=("attn.Wqkv",),
    attended="attn.out_proj",
    attention_norm="norm1",
    up=("mlp.fc12", "mlp.fc11"),
    down="mlp.fc2",
    feed_forward_norm="norm2",
    embedding_norm="emb_ln",
)
KEYS = BERT_KEYS | {
    "context": "max_position_embeddings",
    "eps": "layer_norm_eps",
    "theta": "rope_theta",
}
# As GPT-2 calls them, and so the first files of Nomic's.
FIRST_KEYS = {
    "hidden": "n_embd",
    "width": "n_inner",
    "heads": "n_head",
    "layers": "n_layer",
    "context": "n_positions",
    "eps": "layer_norm_epsilon",
    "theta": "rotary_emb_base",
}
GATED: dict[str, Activation] = {"swiglu": "silu", "geglu": "gelu"}  # the names of the same files
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
IGNORED = """
attention_probs_dropout_prob attn_pdrop dense_seq_output fused_bias_fc fused_dropout_add_ln
mask_token_id max_trained_positions pack_qkv pad_vocab_size_multiple
sbert_ce_default_activation_function sentence_transformers summary_activation summary_first_dropout
summary_proj_to_labels summary_type summary_use_proj tie_word_embeddings unk_token_id unpad_inputs
use_flash_attn use_memory_efficient_attention use_xentropy
"""


def configure(fields: Fields) -> EncoderConfig:
    keys = FIRST_KEYS if "n_embd" in fields else KEYS
    return rotary(
        fields,
        r"^nomic_bert\.",
        NAMES,
        keys,
        theta=1000.0,
        types=2,
        activation=_gate(fields),
        attention_bias=False,
        down_bias=False,
    )


def _gate(fields: Fields) -> Activation:
    if "activation_function" not in fields:
        return gate(fields, "hidden_act", "silu")
    return GATED[fields.choice("activation_function", GATED, "swiglu")]


def rotary(
    fields: Fields,
    prefix: str,
    names: Names,
    keys: Mapping[str, str] = KEYS,
    *,
    theta: float,
    types: int,
    **different: Any,
) -> EncoderConfig:
    """Return a gated encoder of rotary positions; `theta` and `types` if the config says none."""
    for name, value in ONLY.items():
        fields.expect(name, value)
    fields.ignore(*IGNORED.split())
    alike, layers = sizes(fields, keys), fields.integer(keys["layers"], maximum=1000)
    head_dim = alike["hidden_size"] // alike["heads"]
    fields.expect("head_dim", head_dim)
    rope = read_rope(fields, head_dim, theta=fields.number(keys["theta"], theta))
    return EncoderConfig(
        context=fields.integer(keys["context"], 8192),
        layers=(LayerKind(rope=rope),) * layers,
        norm=NormConfig(fields.number(keys["eps"], 1e-12), "layer", bias=True),
        names=names,
        gated=True,
        up_bias=False,
        types=fields.integer("type_vocab_size", types, minimum=0),
        pairs=True,
        classifier=classifier(fields, "pooler.dense", "classifier"),
        renames=((prefix, ""),),
        unused=(r"pooler\..*", r"cls\..*", r"lm_head\..*"),
        **alike,
        **different,
    )
