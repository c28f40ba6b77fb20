"""Qwen 3.5 and 3.6: Qwen3-Next's layers with projections apart, the text side of what sees too."""

from .config import ModelConfig, MoeConfig
from .fields import Fields
from .qwen3_next import FURTHER, hybrid, mixed
from .read import layer_count, mlp, read_quantization

# From where transformers has the text side, with images and without.
RENAMES = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^(model\.(?!visual\.)|lm_head\.)", r"language_model.\1"),
)
IMAGES = r"(model\.visual|vision_tower)\."


def configure(fields: Fields) -> ModelConfig:
    fields.ignore("vision_config", "language_model_only")
    text = fields.table("text_config") if "text_config" in fields else fields
    text.ignore("mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
    sparsely = str(fields.get("model_type")).startswith("qwen3_5_moe")
    _assume(text, sparsely)
    return hybrid(
        text,
        [_sparse(text) if sparsely else mlp(text)] * layer_count(text),
        model="language_model.model",
        head="language_model.lm_head",
        model_type=fields.get("model_type"),
        tied=fields.flag("tie_word_embeddings", text.flag("tie_word_embeddings", False)),
        quantization=read_quantization(fields),
        renames=RENAMES,
        unused=(IMAGES, FURTHER),
    )


def _sparse(text: Fields) -> MoeConfig:
    text.ignore("intermediate_size")
    text.expect("norm_topk_prob", True)
    text.expect("decoder_sparse_step", 1)
    return mixed(text, 256, 8, normalise=True)


def _assume(text: Fields, sparsely: bool) -> None:
    """A config within another leaves out what transformers assumes."""
    text.assume(
        vocab_size=248_320,
        hidden_size=2048 if sparsely else 4096,
        intermediate_size=12_288,
        num_hidden_layers=40 if sparsely else 32,
        num_attention_heads=16,
        num_key_value_heads=2 if sparsely else 4,
    )
