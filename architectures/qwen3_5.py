"""Qwen 3.5 and 3.6: Qwen3-Next's layers with separate projections, as the text side of a model."""

from .config import ModelConfig
from .feed_forward_config import MoeConfig
from .fields import Fields
from .qwen2_moe import with_shared
from .qwen3_next import FURTHER, hybrid
from .read import INNER, SENSES, layer_count, mlp, text_side
from .storage import MlxLm

# From where transformers has the text side, with images and without.
RENAMES = (INNER, (r"^(model\.(?!visual\.)|lm_head\.)", r"language_model.\1"))


def configure(fields: Fields) -> ModelConfig:
    fields.ignore("language_model_only")
    text = fields.table("text_config") if "text_config" in fields else fields
    text.ignore("mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
    model_type = str(fields.get("model_type"))
    sparsely = model_type.startswith("qwen3_5_moe")
    _assume(text, sparsely)
    tied = fields.flag("tie_word_embeddings", text.flag("tie_word_embeddings", False))
    side = text_side(fields, tied) | {"renames": RENAMES, "unused": (SENSES, FURTHER)}
    side |= {"mlx_lm": MlxLm(model_type.removesuffix("_text"))}
    return hybrid(text, [_sparse(text) if sparsely else mlp(text)] * layer_count(text), **side)


def _sparse(text: Fields) -> MoeConfig:
    text.ignore("intermediate_size")
    text.expect("norm_topk_prob", True)
    text.expect("decoder_sparse_step", 1)
    return with_shared(text, 512, counts=256, chosens=8, widths=512, normalise=True)


def _assume(text: Fields, sparsely: bool) -> None:
    """Assume what a config within another leaves out."""
    text.assume(
        vocab_size=248_320,
        hidden_size=2048 if sparsely else 4096,
        intermediate_size=12_288,
        num_hidden_layers=40 if sparsely else 32,
        num_attention_heads=16,
        num_key_value_heads=2 if sparsely else 4,
    )
