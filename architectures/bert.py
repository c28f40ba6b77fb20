"""BERT, and how its relatives with learned positions are read."""

from collections.abc import Mapping
from typing import Any

from .config import NormConfig
from .encoder_config import (
    EncoderConfig,
    LayerKind,
    Names,
    Positions,
    activation,
    classifier,
    sizes,
)
from .fields import Fields

NAMES = Names(
    layers="encoder.layer",
    projections=("attention.self.query", "attention.self.key", "attention.self.value"),
    attended="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up=("intermediate.dense",),
    down="output.dense",
    feed_forward_norm="output.LayerNorm",
)
KEYS = {
    "hidden": "hidden_size",
    "width": "intermediate_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "activation": "hidden_act",
}
# Tensors for other uses: a masked word's head, the pooler of an encoder by itself.
UNUSED = (
    r"pooler\..*",
    r"cls\..*",
    r"lm_head\..*",
    r"vocab_(transform|layer_norm|projector)\..*",
    r"embeddings\.position_ids",
)
# Dropouts, how an optimizer began, what BERT's first exporters wrote.
IGNORED = """
attention_probs_dropout_prob directionality dropout mask_token_id output_past pooler_fc_size
pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type qa_dropout
sbert_ce_default_activation_function sentence_transformers seq_classif_dropout sinusoidal_pos_embds
tie_weights_ tie_word_embeddings unk_token_id
"""
RENAMES = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))  # of norms, as TensorFlow calls them


def configure(fields: Fields) -> EncoderConfig:
    return learned(
        fields,
        "bert",
        Positions(rows(fields)),
        types=fields.integer("type_vocab_size", 2),
        pairs=True,
        classifier=classifier(fields, "pooler.dense", "classifier"),
    )


def learned(
    fields: Fields,
    prefix: str,
    positions: Positions,
    names: Names = NAMES,
    keys: Mapping[str, str] = KEYS,
    **different: Any,
) -> EncoderConfig:
    """Return an encoder of these learned positions; `keys` as KEYS, by the config's names.

    `prefix` stands before the names of its tensors where a head was saved with it.
    """
    fields.expect("position_embedding_type", "absolute")
    fields.expect("is_decoder", False)
    fields.ignore(*IGNORED.split())
    return EncoderConfig(
        context=positions.rows - positions.first,
        layers=(LayerKind(),) * fields.integer(keys["layers"], maximum=1000),
        norm=NormConfig(fields.number("layer_norm_eps", 1e-12), "layer", bias=True),
        activation=activation(fields, keys["activation"]),
        names=names,
        positions=positions,
        renames=(*RENAMES, (rf"^{prefix}\.", "")),
        unused=UNUSED,
        **sizes(fields, keys),
        **different,
    )


def rows(fields: Fields) -> int:
    """Return the number of learned positions."""
    return fields.integer("max_position_embeddings", 512)


def after_padding(fields: Fields, padding: int) -> Positions:
    """Return positions that begin after the padding token's id."""
    count = rows(fields)
    if count <= padding + 1:
        raise fields.refuse("max_position_embeddings", f"more than {padding + 1}")
    return Positions(count, padding + 1, padding)
