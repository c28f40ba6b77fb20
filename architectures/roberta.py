"""RoBERTa, and XLM-RoBERTa and CamemBERT with it: positions begin after the padding token's id."""

from .bert import after_padding, learned
from .encoder_config import EncoderConfig, classifier
from .fields import Fields


def configure(fields: Fields) -> EncoderConfig:
    return learned(
        fields,
        "roberta",
        after_padding(fields, fields.integer("pad_token_id", 1, minimum=0)),
        types=fields.integer("type_vocab_size", 2),
        classifier=classifier(fields, "classifier.dense", "classifier.out_proj"),
    )
