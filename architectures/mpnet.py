"""MPNet: BERT without types of tokens, whose attention adds a bias for each distance."""

from .bert import after_padding, learned
from .encoder_config import EncoderConfig, Names, classifier
from .fields import Fields

NAMES = Names(
    layers="encoder.layer",
    projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    attended="attention.attn.o",
    attention_norm="attention.LayerNorm",
    up=("intermediate.dense",),
    down="output.dense",
    feed_forward_norm="output.LayerNorm",
)
BUCKETS, PADDING = 32, 1  # of distances, and the padding token's id, whatever the config says


def configure(fields: Fields) -> EncoderConfig:
    fields.expect("relative_attention_num_buckets", BUCKETS)
    return learned(
        fields,
        "mpnet",
        after_padding(fields, PADDING),
        NAMES,
        buckets=BUCKETS,
        classifier=classifier(fields, "classifier.dense", "classifier.out_proj"),
    )
