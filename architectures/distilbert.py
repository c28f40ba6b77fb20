"""DistilBERT: BERT without types of tokens, under different names."""

from .bert import learned, rows
from .encoder_config import EncoderConfig, Names, Positions, classifier
from .fields import Fields

NAMES = Names(
    layers="transformer.layer",
    projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    attended="attention.out_lin",
    attention_norm="sa_layer_norm",
    up=("ffn.lin1",),
    down="ffn.lin2",
    feed_forward_norm="output_layer_norm",
)
KEYS = {
    "hidden": "dim",
    "width": "hidden_dim",
    "heads": "n_heads",
    "layers": "n_layers",
    "activation": "activation",
}


def configure(fields: Fields) -> EncoderConfig:
    return learned(
        fields,
        "distilbert",
        Positions(rows(fields)),
        NAMES,
        KEYS,
        classifier=classifier(fields, "pre_classifier", "classifier", activation="relu"),
    )
