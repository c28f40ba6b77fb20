"""Tiny random decoders that embed or rerank, with the files that sentence-transformers keeps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Bytes
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from tests.architectures.tiny import Floats, Tiny, tensor, tensors

from .tiny_embedders import (
    DENSE,
    GOLDEN,
    IDENTITY,
    NORMALIZE,
    POOLING,
    SIGMOID,
    TEXTS,
    dense,
    modules,
)

MODELS = Path(__file__).parents[1] / "architectures" / "golden"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
MERGES = (("y", "e"), ("ye", "s"), ("n", "o"), ("\u0120", "t"))
VOCABULARY = 272
YES, NO = 257, 258  # as MERGES make them
EOS, AROUND = "$A <eos>", "<bos> $A <eos>"
DOCUMENTS = (*TEXTS[:3], *TEXTS[4:], "tree {0} \u00fc\u00df <think> no", "the cat is on the stone")
LOGIT = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
LOGITS = {"method": "forward", "method_output_name": "logits"}
HIDDEN = {"method": "forward", "method_output_name": "last_hidden_state"}
GENERATION = {"transformer_task": "text-generation", "module_output_name": "causal_logits"}
# As Qwen3-Reranker has it; jinja drops one newline at the end.
JUDGE = """\
{%- set task = messages | selectattr("role", "eq", "system") | map(attribute="content") | first
    | default("Given a web search query, retrieve relevant passages that answer the query") -%}
{%- set query = messages | selectattr("role", "eq", "query") | map(attribute="content") | first -%}
{%- set text = messages | selectattr("role", "eq", "document") | map(attribute="content")
    | first -%}
<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. \
Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: {{ task }}
<Query>: {{ query }}
<Document>: {{ text }}<|im_end|>
<|im_start|>assistant
<think>

</think>


"""
PARTS = """\
{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content[0].text }}
{% endfor %}{{ messages | length }}?"""
SAID = """\
{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}"""


@dataclass(frozen=True)
class Decoder:
    """A tiny model of tests.architectures, and what is beside it: JSON by the name of its file.

    `bare`: its tensors were saved without the module around them. `labels` of a classifier.
    """

    model: str
    files: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    around: str = "$A"  # what the tokenizer puts around a text
    limit: int = 1000
    prompt: str | None = None
    template: str | None = None
    bare: bool = False
    labels: int = 0

    def tiny(self) -> Tiny:
        with np.load(MODELS / f"{self.model}.npz") as file:
            about = json.loads(str(file["about"]))
        config = about["config"] | {"vocab_size": VOCABULARY} | self.config
        tables = ("embed_tokens.weight", "lm_head.weight")
        shapes = {
            name: (dtype, (VOCABULARY, *shape[1:]) if name.endswith(tables) else tuple(shape))
            for name, dtype, shape in about["tensors"]
        }
        arrays = tensors(shapes, config)
        if self.labels:
            shape = (self.labels, config["hidden_size"])
            arrays["score.weight"] = tensor("score.weight", shape)
        if self.bare:
            arrays = {name.removeprefix("model."): array for name, array in arrays.items()}
        return Tiny(config, arrays)

    def write(self, path: Path) -> Path:
        self.tiny().write(path)
        tokenizer(self.around).save(str(path / "tokenizer.json"))
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.limit,
            "model_input_names": ["input_ids", "attention_mask"],
            "pad_token": "<pad>",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "padding_side": "left",
        }
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
        if self.template is not None:
            (path / "chat_template.jinja").write_text(self.template)
        for name, value in self.files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(json.dumps(value))
            if "in_features" in value:
                save_file(dense(value), path / name.replace("config.json", "model.safetensors"))
        return path


def tokenizer(around: str) -> Tokenizer:
    """Build a tokenizer of bytes, with a few words and special tokens."""
    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(a + b for a, b in MERGES)]
    loaded = Tokenizer(BPE({w: i for i, w in enumerate(words)}, list(MERGES)))
    loaded.add_special_tokens(list(SPECIAL))
    loaded.pre_tokenizer = ByteLevel(add_prefix_space=False)
    loaded.decoder = Bytes()
    loaded.post_processor = TemplateProcessing(
        single=around,
        pair=f"{around} $B:1",
        special_tokens=[(t, loaded.token_to_id(t)) for t in SPECIAL],
    )
    return loaded


def pooled(**pooling: Any) -> dict[str, Any]:
    return {
        "modules.json": modules(("1_Pooling", POOLING), ("2_Normalize", NORMALIZE)),
        "1_Pooling/config.json": pooling,
    }


def logits(scores: Mapping[str, Any], message: str | None, **about: Any) -> dict[str, Any]:
    """`message`: the format of a message's content, if pairs are put into the chat template."""
    modalities = {"text": LOGITS}
    if message is not None:
        modalities["message"] = LOGITS | {"format": message}
    return {
        "modules.json": modules(("1_LogitScore", LOGIT)),
        "1_LogitScore/config.json": dict(scores),
        "sentence_bert_config.json": GENERATION | {"modality_config": modalities},
        "config_sentence_transformers.json": {"model_type": "CrossEncoder"} | about,
    }


QWEN_EMBEDDING, EMBEDDING_GEMMA = "last_token_bare", "both_ways_bare_two_dense"
EMBEDDERS = {
    QWEN_EMBEDDING: Decoder(
        "qwen3_layer_types_tied",
        pooled(
            embedding_dimension=64,
            pooling_mode_lasttoken=True,
            pooling_mode_mean_tokens=False,
            include_prompt=True,
        )
        | {
            "config_sentence_transformers.json": {
                "prompts": {"query": "Instruct: find\nQuery:", "document": ""},
                "default_prompt_name": None,
            }
        },
        around=EOS,
        prompt="query",
        bare=True,
    ),
    EMBEDDING_GEMMA: Decoder(
        "gemma3_text_older",
        {
            "modules.json": modules(
                ("1_Pooling", POOLING),
                ("2_Dense", DENSE),
                ("3_Dense", DENSE),
                ("4_Normalize", NORMALIZE),
            ),
            "1_Pooling/config.json": {
                "embedding_dimension": 64,
                "pooling_mode_mean_tokens": True,
                "include_prompt": True,
            },
            "2_Dense/config.json": {
                "in_features": 64,
                "out_features": 96,
                "bias": False,
                "activation_function": IDENTITY,
            },
            "3_Dense/config.json": {
                "in_features": 96,
                "out_features": 40,
                "bias": False,
                "activation_function": IDENTITY,
            },
            "config_sentence_transformers.json": {
                "prompts": {"query": "task: search result | query: ", "document": "title: none"},
                "default_prompt_name": "document",
            },
        },
        config={"use_bidirectional_attention": True},
        around=AROUND,
        prompt="query",
        bare=True,
    ),
    "both_ways_with_a_head": Decoder(
        "qwen2_mha_yarn",
        pooled(embedding_dimension=64, pooling_mode="lasttoken"),
        config={"is_causal": False},
        around=EOS,
    ),
    "window_three_modes_cut_prompt_left_out": Decoder(
        "mistral_window_wide_head",
        pooled(
            embedding_dimension=64,
            pooling_mode=["mean", "lasttoken", "weightedmean"],
            include_prompt=False,
        )
        | {
            "config_sentence_transformers.json": {
                "prompts": {"passage": "the stone and"},
                "default_prompt_name": "passage",
            }
        },
        around=AROUND,
        limit=70,
    ),
    "turned_by_its_length": Decoder(
        "phi3_longrope_partial_tied",
        pooled(embedding_dimension=64, pooling_mode=["cls", "lasttoken"]),
        around=EOS,
    ),
    "hybrid": Decoder("lfm2_adjusted_tied", pooled(embedding_dimension=64), around=EOS),
    "in_a_chat_template": Decoder(
        "qwen3_mqa_yarn_biased",
        pooled(embedding_dimension=64, pooling_mode="lasttoken")
        | {
            "sentence_bert_config.json": {
                "transformer_task": "feature-extraction",
                "module_output_name": "token_embeddings",
                "modality_config": {"text": HIDDEN, "message": HIDDEN},
            },
            "config_sentence_transformers.json": {"prompts": {"query": "seek"}},
        },
        around=EOS,  # not heeded where a template says all
        prompt="query",
        template=SAID,
        limit=60,
    ),
}
RECIPE = "by_the_recipe"
RERANKERS = {
    "next_token_in_a_template_cut": Decoder(
        "qwen3_layer_types_tied",
        logits(
            {"true_token_id": YES, "false_token_id": NO},
            "flat",
            activation_fn=IDENTITY,
            prompts={"query": "Given a question, find what answers it"},
            default_prompt_name="query",
        ),
        config={"max_position_embeddings": 1024},
        template=JUDGE,
        limit=400,
        bare=True,
    ),
    "next_token_in_parts": Decoder(
        "gemma3_text_older",
        logits({"true_token_id": 9, "false_token_id": 80}, "auto", activation_fn=SIGMOID),
        template=PARTS,
    ),
    "one_token_of_a_plain_pair": Decoder(
        "qwen2_mha_yarn",
        logits(
            {"true_token_id": 40, "module_input_name": "causal_logits"},
            None,
            activation_fn=IDENTITY,
            prompts={"query": "seek:"},
            default_prompt_name="query",
        ),
        around=AROUND,
        limit=100,
    ),
    "label": Decoder(
        "mistral_window_wide_head",
        config={
            "architectures": ["MistralForSequenceClassification"],
            "id2label": {"0": "LABEL_0"},
            "sentence_transformers": {"activation_fn": IDENTITY},
        },
        around=EOS,
        labels=1,
    ),
    RECIPE: Decoder(
        "qwen3_layer_types_tied",
        config={"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 1024},
    ),
}


def oracle(name: str) -> Floats:
    with np.load(GOLDEN / "embedding_decoders.npz") as out:
        return np.asarray(out[name], np.float32)
