"""Mistral 3's wrapper of a language model that also sees images: the language model."""

from dataclasses import replace

from . import ministral3, mistral
from .config import ModelConfig
from .fields import Fields
from .read import SENSES, text_side

TEXTS = {
    "mistral": mistral.configure,
    "ministral": mistral.configure,
    "ministral3": ministral3.configure,
}
ACTIVATIONS = r".*\.activation_scale$"  # of 8-bit products, which are not done here


def configure(fields: Fields) -> ModelConfig:
    text = fields.table("text_config")
    text.assume(model_type="mistral", tie_word_embeddings=fields.flag("tie_word_embeddings", False))
    fields.ignore("multimodal_projector_bias", "projector_hidden_act", "spatial_merge_size")
    inner = TEXTS[text.choice("model_type", TEXTS, "mistral")](text)
    side = text_side(fields, inner.tied)
    return replace(inner, **(side | {"unused": (SENSES, ACTIVATIONS)}))
