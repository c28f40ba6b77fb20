"""How others call the formats in which models write calls of tools."""

from typing import Any

from .draft import Draft, LeftOut

# vLLM's names, where ours are not the same but for the sign between words.
VLLM = {
    "llama3_json": "llama", "llama4_json": "llama", "openai": "harmony", "gpt_oss": "harmony",
    "glm45": "glm", "glm47": "glm", "kimi_k2": "kimi", "deepseek_v31": "deepseek-v3",
    "phi4_mini_json": "phi4", "granite-20b-fc": "granite", "seed_oss": "seed", "lfm2": "lfm2",
    "minimax_m2": "minimax", "qwen3_xml": "qwen3-coder", "qwen": "hermes", "gemma4": "gemma4",
}  # fmt: skip


def tool_parser(_: Draft, name: Any) -> str:
    """Return our name of a format; where it has none, models tell by their chat templates."""
    from ...translate.parsers.tool_formats import NAMES  # takes a moment, and few files need it

    text = str(name)
    own = VLLM.get(text, text.replace("_", "-"))
    if own not in NAMES:
        raise LeftOut("is the name of no format here; what the chat template tells is used")
    return own
