"""Tiny random encoders of every family, the same wherever they are built."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .tiny import Config, Floats, Tiny, stream

GOLDEN = Path(__file__).parent / "golden"
LENGTHS = (1, 2, 17, 33, 33, 140)
LONG = 600  # more than kernels.encoder_attention.ROWS twice over
VOCABULARY = 90

BERT: Config = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 80,
    "max_position_embeddings": 160,
    "layer_norm_eps": 1e-5,
}
DISTILBERT: Config = {
    "model_type": "distilbert",
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 160,
    "n_layers": 2,
    "n_heads": 4,
    "dim": 32,
    "hidden_dim": 72,
}
MODERNBERT: Config = {
    "model_type": "modernbert",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 1024,
    "local_attention": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
GAINS = {"": 1.4, "classifier": 4.0, "head.": 4.0, "pooler": 4.0} | dict.fromkeys(
    ("query", "key", "q_lin", "k_lin", ".q.", ".k.", "qkv"), 1.8
)
TYPED = ("bert", "nomic_bert")
ONE_LABEL = {"num_labels": 1}
# The class that writes the checkpoint, and what its config has.
CASES: dict[str, tuple[str, Config]] = {
    "bert": ("BertModel", BERT | {"model_type": "bert"}),
    "bert_reranker": (
        "BertForSequenceClassification",
        BERT
        | ONE_LABEL
        | {
            "model_type": "bert",
            "hidden_size": 40,
            "num_attention_heads": 4,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 0.05,
            "type_vocab_size": 3,
        },
    ),
    "bert_masked": (
        "BertForMaskedLM",
        BERT | {"model_type": "bert", "hidden_act": "silu", "num_attention_heads": 6},
    ),
    "roberta": ("RobertaModel", BERT | {"model_type": "roberta", "type_vocab_size": 1}),
    "xlm_roberta_classifier": (
        "XLMRobertaForSequenceClassification",
        BERT
        | {
            "model_type": "xlm-roberta",
            "num_labels": 3,
            "pad_token_id": 5,
            "hidden_act": "relu",
            "layer_norm_eps": 0.02,
            "type_vocab_size": 1,
        },
    ),
    "distilbert": ("DistilBertModel", DISTILBERT),
    "distilbert_classifier": (
        "DistilBertForSequenceClassification",
        DISTILBERT | {"activation": "relu", "n_heads": 2, "sinusoidal_pos_embds": True},
    ),
    "mpnet": ("MPNetModel", BERT | {"model_type": "mpnet"}),
    "mpnet_reranker": (
        "MPNetForSequenceClassification",
        BERT
        | ONE_LABEL
        | {
            "model_type": "mpnet",
            "hidden_size": 40,
            "num_attention_heads": 5,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 0.05,
        },
    ),
    "nomic_bert": ("NomicBertModel", BERT | {"model_type": "nomic_bert"}),
    "nomic_bert_reranker": (
        "NomicBertForSequenceClassification",
        BERT
        | ONE_LABEL
        | {
            "model_type": "nomic_bert",
            "hidden_size": 40,
            "num_attention_heads": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": 0.05,
            "type_vocab_size": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
        },
    ),
    "gte": ("GteModel", BERT | {"model_type": "gte", "num_attention_heads": 2}),
    "gte_reranker": (
        "GteForSequenceClassification",
        BERT
        | ONE_LABEL
        | {
            "model_type": "gte",
            "hidden_size": 40,
            "num_attention_heads": 5,
            "hidden_act": "silu",
            "layer_norm_eps": 0.05,
            "type_vocab_size": 0,
            "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 90.0},
        },
    ),
    "modernbert": ("ModernBertForMaskedLM", MODERNBERT),
    "modernbert_reranker": (
        "ModernBertForSequenceClassification",
        MODERNBERT
        | ONE_LABEL
        | {
            "hidden_size": 40,
            "num_attention_heads": 2,
            "hidden_activation": "silu",
            "norm_eps": 0.02,
            "norm_bias": True,
            "attention_bias": True,
            "mlp_bias": True,
            "classifier_bias": True,
            "classifier_pooling": "mean",
            "classifier_activation": "relu",
            "local_attention": 7,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 500.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
}


def sequences(model_type: str) -> list[list[int]]:
    random = np.random.RandomState(11)
    lengths = [*LENGTHS, LONG] if model_type == "modernbert" else LENGTHS
    return [random.randint(0, VOCABULARY, length).tolist() for length in lengths]


def types(model_type: str, sequence: list[int]) -> list[int]:
    """A second text begins two thirds into a sequence, where the model is told of it."""
    after = 2 * len(sequence) // 3 if model_type in TYPED else len(sequence)
    return [int(position >= after) for position in range(len(sequence))]


def tensor(name: str, shape: tuple[int, ...]) -> Floats:
    """Return a tensor scaled so that attention is peaked and every part shows in the results."""
    values = stream(name).standard_normal(shape)
    last = name.lower()
    if "norm.weight" in last or re.search(r"(norm\d|ln)\.weight", last):
        values = 1 + 0.3 * values
    elif last.endswith("bias"):
        values = 0.5 * values
    elif "embeddings" in last or "relative" in last:
        pass
    else:
        gain = max(gain for part, gain in GAINS.items() if part in last)
        values = values * gain / np.sqrt(shape[-1])
    return values.astype(np.float32)


@dataclass(frozen=True)
class Golden:
    """A checkpoint as transformers saved it, and what it makes of `sequences`.

    `hidden` has four rows for each: the first token's, the middle one's, the last one's, the mean.
    """

    config: Config
    shapes: Mapping[str, tuple[int, ...]]
    hidden: Floats  # (sequences, 4, width)
    scores: Floats | None  # (sequences, labels)

    def tensors(self) -> dict[str, Floats]:
        return {name: tensor(name, shape) for name, shape in self.shapes.items()}

    def tiny(self, **changes: Any) -> Tiny:
        return Tiny(self.config | changes, self.tensors())


def sampled(hidden: Floats) -> Floats:
    """Return three rows and the mean of all: (tokens, width) to (4, width)."""
    return np.stack([hidden[0], hidden[len(hidden) // 2], hidden[-1], hidden.mean(axis=0)])


def golden(name: str) -> Golden:
    with np.load(GOLDEN / f"encoder_{name}.npz") as file:
        about = json.loads(str(file["about"]))
        shapes = {name: tuple(shape) for name, shape in about["shapes"].items()}
        scores = file.get("scores")
        return Golden(about["config"], shapes, file["hidden"], scores)
