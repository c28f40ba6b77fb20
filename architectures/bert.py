"""BERT and its relatives: RoBERTa, DistilBERT and MPNet differ in embeddings, names and head."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .config import NormConfig
from .encoder_config import (
    Activation,
    ClassifierConfig,
    EncoderConfig,
    Names,
    Positions,
    Seen,
    activation,
    classifies,
    head_count,
    labels,
)
from .fields import Fields
from .read import read_quantization

BERT = Names(
    layers="encoder.layer",
    projections=("attention.self.query", "attention.self.key", "attention.self.value"),
    attended="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up=("intermediate.dense",),
    down="output.dense",
    feed_forward_norm="output.LayerNorm",
)
DISTILBERT = Names(
    layers="transformer.layer",
    projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    attended="attention.out_lin",
    attention_norm="sa_layer_norm",
    up=("ffn.lin1",),
    down="ffn.lin2",
    feed_forward_norm="output_layer_norm",
)
MPNET = Names(
    layers="encoder.layer",
    projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    attended="attention.attn.o",
    attention_norm="attention.LayerNorm",
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
DISTILBERT_KEYS = {
    "hidden": "dim",
    "width": "hidden_dim",
    "heads": "n_heads",
    "layers": "n_layers",
    "activation": "activation",
}
# Of other uses of the checkpoint: a masked word's head, the pooler of an encoder by itself.
UNUSED = (
    r"pooler\..*",
    r"cls\..*",
    r"lm_head\..*",
    r"vocab_(transform|layer_norm|projector)\..*",
    r"embeddings\.position_ids",
)
# Dropouts, how an optimizer began, what BERT's first exporters wrote.
IGNORED = (
    "attention_probs_dropout_prob",
    "directionality",
    "dropout",
    "mask_token_id",
    "output_past",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "qa_dropout",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "seq_classif_dropout",
    "sinusoidal_pos_embds",
    "tie_weights_",
    "tie_word_embeddings",
    "unk_token_id",
)
RENAMES = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))  # of norms, as TensorFlow calls them
BUCKETS = 32  # of MPNet's distances, whatever its config says


@dataclass(frozen=True, slots=True)
class Variant:
    """What a model_type has of its own.

    `types`: it has embeddings of token types; `offset`: its positions begin after the padding
    token's id.
    """

    prefix: str
    dense: str
    output: str
    names: Names = BERT
    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)
    activation: Activation = "tanh"
    types: bool = True
    pairs: bool = False
    offset: bool = False
    buckets: int = 0


ROBERTA = Variant("roberta", "classifier.dense", "classifier.out_proj", offset=True)
VARIANTS = {
    "bert": Variant("bert", "pooler.dense", "classifier", pairs=True),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": Variant(
        "distilbert",
        "pre_classifier",
        "classifier",
        DISTILBERT,
        DISTILBERT_KEYS,
        activation="relu",
        types=False,
    ),
    "mpnet": Variant(
        "mpnet",
        "classifier.dense",
        "classifier.out_proj",
        MPNET,
        types=False,
        offset=True,
        buckets=BUCKETS,
    ),
}


def configure(fields: Fields) -> EncoderConfig:
    variant = VARIANTS[fields.raw["model_type"]]
    keys = variant.keys
    _expect(fields)
    hidden = fields.integer(keys["hidden"])
    positions = _positions(fields, variant)
    return EncoderConfig(
        model_type=fields.raw["model_type"],
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        width=fields.integer(keys["width"]),
        heads=head_count(fields, keys["heads"], hidden),
        context=positions.rows - positions.first,
        layers=(Seen(),) * fields.integer(keys["layers"], most=1000),
        norm=NormConfig(fields.number("layer_norm_eps", 1e-12), "layer", bias=True),
        activation=activation(fields, keys["activation"]),
        names=variant.names,
        positions=positions,
        types=fields.integer("type_vocab_size", 2) if variant.types else 0,
        pairs=variant.pairs,
        buckets=variant.buckets,
        classifier=_classifier(fields, variant),
        quantization=read_quantization(fields),
        renames=(*RENAMES, (rf"^{variant.prefix}\.", "")),
        unused=UNUSED,
    )


def _positions(fields: Fields, variant: Variant) -> Positions:
    rows = fields.integer("max_position_embeddings", 512)
    if not variant.offset:
        return Positions(rows)
    # MPNet's padding token is 1, whatever its config says
    padding = 1 if variant.buckets else fields.integer("pad_token_id", 1, least=0)
    if rows <= padding + 1:
        raise fields.refuse("max_position_embeddings", f"more than {padding + 1}")
    return Positions(rows, padding + 1, padding)


def _classifier(fields: Fields, variant: Variant) -> ClassifierConfig | None:
    if not classifies(fields):
        return None
    return ClassifierConfig(labels(fields), variant.dense, variant.output, variant.activation)


def _expect(fields: Fields) -> None:
    """What would change the mathematics, and what only looks so."""
    fields.expect("position_embedding_type", "absolute")
    fields.expect("is_decoder", False)
    if "relative_attention_num_buckets" in fields:
        fields.expect("relative_attention_num_buckets", BUCKETS)
    fields.ignore(*IGNORED)
