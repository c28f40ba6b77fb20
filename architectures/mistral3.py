"""Mistral 3's wrapper of a language model that also sees images: the language model."""

from dataclasses import replace

from . import ministral3, mistral
from .config import ModelConfig
from .fields import Fields
from .read import read_quantization

TEXTS = {
    "mistral": mistral.configure,
    "ministral": mistral.configure,
    "ministral3": ministral3.configure,
}
VISION = r"(model\.)?(vision_tower|multi_modal_projector)\."
ACTIVATIONS = r".*\.activation_scale$"  # of 8-bit products, which are not done here
RENAMES = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
)


def configure(fields: Fields) -> ModelConfig:
    text = fields.table("text_config")
    text.assume(model_type="mistral", tie_word_embeddings=fields.flag("tie_word_embeddings", False))
    fields.ignore("vision_config", "projector_hidden_act", "spatial_merge_size")
    fields.ignore("multimodal_projector_bias")
    return replace(
        TEXTS[text.choice("model_type", TEXTS, "mistral")](text),
        model_type="mistral3",
        model="language_model.model",
        head="language_model.lm_head",
        quantization=read_quantization(fields),
        renames=RENAMES,
        unused=(VISION, ACTIVATIONS),
    )
