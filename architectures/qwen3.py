"""Qwen 3: queries and keys are normalised head by head, whose width is the config's choice."""

from .config import AttentionConfig, BlockConfig, ModelConfig
from .fields import Fields
from .read import attention, biases, decoder, mlp, read_windows, rms
from .recipe import Recipe

# Qwen3-Reranker's, from its card.
RECIPE = Recipe(
    "<|im_start|>system\n"
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
    "<Instruct>: {system}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "Given a web search query, retrieve relevant passages that answer the query",
    "yes",
    "no",
)


def mixers(fields: Fields, head_dim: int = 0) -> list[AttentionConfig]:
    """Read each layer's attention; `head_dim` if the config says none."""
    fields.assume(max_position_embeddings=32_768)
    fields.expect("use_qk_norm", True)
    biased = biases(fields)
    return [
        attention(fields, head_dim, qk_norm="head", window=window, **biased)
        for window in read_windows(fields)
    ]


def configure(fields: Fields) -> ModelConfig:
    # transformers' default width, whatever hidden_size is
    blocks = [BlockConfig(mixer, mlp(fields)) for mixer in mixers(fields, head_dim=128)]
    return decoder(fields, blocks, rms(fields), recipe=RECIPE)
