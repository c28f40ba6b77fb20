"""Tiny random embedding and reranking models with the files that sentence-transformers keeps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from tests.architectures.tiny import Floats
from tests.architectures.tiny_encoders import golden, tensor

GOLDEN = Path(__file__).parent / "golden"
SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]")
WORDS = """
a the of and in on at is was are cat dog bird fish tree house river stone sky rain snow wind
sun moon star fire earth water bread wine salt sleeps runs flies swims grows falls shines
burns red green blue old young small large find query : . , ? ! who where when why how Cat DOG
"""
TEXTS = (
    "the cat sleeps on the old stone",
    "a bird flies in the blue sky .",
    "fish",
    "",
    "the rain falls and the river grows and the wind is young , why ? how ! " * 3,
    "Cat and DOG",
    "where is the large green tree ?",
    "the old cat sleeps",
)
QUERY = "where is the cat ?"
IDENTITY, TANH, SIGMOID = (
    f"torch.nn.modules.{name}"
    for name in ("linear.Identity", "activation.Tanh", "activation.Sigmoid")
)
TRANSFORMER, POOLING, NORMALIZE, DENSE = (
    f"sentence_transformers.models.{name}"
    for name in ("Transformer", "Pooling", "Normalize", "Dense")
)


@dataclass(frozen=True)
class TinyModel:
    """An encoder of tests.architectures, and what is beside it: JSON by the name of its file."""

    encoder: str
    files: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)  # more of config.json
    limit: int = 1000  # as tokenizer_config.json says
    folder: str = ""  # of the encoder
    prompt: str | None = None  # named when texts are embedded
    typed: bool = True  # as tokenizer_config.json says

    def write(self, path: Path) -> Path:
        inner = golden(self.encoder).tiny(**self.config).write(path / self.folder)
        tokenizer().save(str(inner / "tokenizer.json"))
        names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.limit,
            "model_input_names": ["input_ids", "attention_mask"] + ["token_type_ids"] * self.typed,
        }
        (inner / "tokenizer_config.json").write_text(json.dumps(settings | names))
        for name, value in self.files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(json.dumps(value))
            if "in_features" in value:
                save_file(dense(value), path / name.replace("config.json", "model.safetensors"))
        return path


def tokenizer() -> Tokenizer:
    """Build one with what its last user had set: padding and a limit, which nobody should heed."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS.split()))}
    loaded = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    loaded.add_special_tokens(list(SPECIAL))
    loaded.pre_tokenizer = Whitespace()
    loaded.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 2)],
    )
    loaded.enable_truncation(5)
    loaded.enable_padding(length=40, pad_id=1, pad_token="[PAD]")
    return loaded


def dense(config: Mapping[str, Any]) -> dict[str, Floats]:
    shape = (config["out_features"], config["in_features"])
    arrays = {"linear.weight": tensor(f"dense{shape}.weight", shape)}
    if config["bias"]:
        arrays["linear.bias"] = tensor(f"dense{shape}.bias", shape[:1])
    return arrays


def modules(*following: tuple[str, str], folder: str = "") -> list[dict[str, Any]]:
    every = [(folder, TRANSFORMER), *following]
    return [
        {"idx": idx, "name": str(idx), "path": path, "type": kind}
        for idx, (path, kind) in enumerate(every)
    ]


EMBEDDERS = {
    "mean_normalized_cut": TinyModel(
        "bert",
        {
            "modules.json": modules(("1_Pooling", POOLING), ("2_Normalize", NORMALIZE)),
            "1_Pooling/config.json": {
                "word_embedding_dimension": 48,
                "pooling_mode_cls_token": False,
                "pooling_mode_mean_tokens": True,
            },
            "sentence_bert_config.json": {"max_seq_length": 12, "do_lower_case": False},
            "config_sentence_transformers.json": {"prompts": {"query": "find : the"}},
        },
    ),
    "two_dense_behind_two_modes_prompt_left_out": TinyModel(
        "mpnet",
        {
            "modules.json": modules(
                ("1_Pooling", POOLING),
                ("2_Dense", DENSE),
                ("3_Dense", DENSE),
                ("4_Normalize", NORMALIZE),
            ),
            "1_Pooling/config.json": {
                "word_embedding_dimension": 48,
                "pooling_mode_cls_token": True,
                "pooling_mode_mean_tokens": False,
                "pooling_mode_max_tokens": True,
                "include_prompt": False,
            },
            "2_Dense/config.json": {
                "in_features": 96,
                "out_features": 20,
                "bias": True,
                "activation_function": TANH,
            },
            "3_Dense/config.json": {
                "in_features": 20,
                "out_features": 24,
                "bias": False,
                "activation_function": IDENTITY,
            },
            "config_sentence_transformers.json": {
                "prompts": {"query": "who is the", "document": "a"},
                "default_prompt_name": "document",
            },
        },
        prompt="query",
    ),
    "three_modes_lower_case_own_folder": TinyModel(
        "modernbert",
        {
            "modules.json": modules(("1_Pooling", POOLING), folder="0_Transformer"),
            "1_Pooling/config.json": {
                "embedding_dimension": 32,
                "pooling_mode": ["weightedmean", "lasttoken", "mean_sqrt_len_tokens"],
                "include_prompt": False,
            },
            "0_Transformer/sentence_roberta_config.json": {"do_lower_case": True},
            "config_sentence_transformers.json": {
                "prompts": {"passage": "the stone and"},
                "default_prompt_name": "passage",
            },
        },
        limit=30,
        folder="0_Transformer",
    ),
    "no_modules": TinyModel("distilbert", limit=20),
}
RERANKERS = {
    "untyped": TinyModel(
        "bert_reranker",
        config={"sentence_transformers": {"activation_fn": IDENTITY}},
        limit=16,
        typed=False,
    ),
    "raw": TinyModel(
        "bert_reranker",
        config={"sentence_transformers": {"activation_fn": IDENTITY, "version": "5.0.0"}},
        limit=16,
    ),
    "sigmoid_by_default": TinyModel("mpnet_reranker"),
    "raw_by_the_old_name": TinyModel(
        "modernbert_reranker", config={"sbert_ce_default_activation_function": IDENTITY}
    ),
    "sigmoid_by_name": TinyModel(
        "mpnet_reranker", config={"sentence_transformers": {"activation_fn": SIGMOID}}, limit=15
    ),
}


def oracle(name: str) -> Floats:
    with np.load(GOLDEN / "embeddings.npz") as out:
        return np.asarray(out[name], np.float32)


POOLED = {"modules.json": modules(("1_Pooling", POOLING)), "1_Pooling/config.json": {}}
DENSE_FILE = {"in_features": 48, "out_features": 4, "bias": False, "activation_function": IDENTITY}


def with_dense(**changes: Any) -> dict[str, Any]:
    """The mean of tokens, and a Dense module of this config."""
    listed = modules(("1_Pooling", POOLING), ("2_Dense", DENSE))
    return POOLED | {"modules.json": listed, "2_Dense/config.json": DENSE_FILE | changes}
