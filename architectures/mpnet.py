"""MPNet: BERT without types of tokens, whose attention adds a bias for each distance."""

from dataclasses import replace

from .bert import NAMES as BERT_NAMES
from .bert import after_padding, learned
from .encoder_config import EncoderConfig, classifier
from .fields import Fields

NAMES = replace(
    BERT_NAMES,
    projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    attended="attention.attn.o",
    attention_norm="attention.LayerNorm",
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
