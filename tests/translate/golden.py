"""Where golden token ids of conversations lie, and how long ones are written: as digests."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden_templates.json")
REAL_GOLDEN = Path(__file__).with_name("golden_tokenizers.json")
MISTRAL_GOLDEN = Path(__file__).with_name("golden_mistral.json")
TOKENIZERS = Path(__file__).with_name("tokenizers")
NOW = datetime(2024, 7, 26, 12, 30, 15)  # when every prompt is rendered
# Families whose real tokenizers give golden ids, and whether a reduced one may lie here.
REAL = {
    "deepseek_v3": True,
    "gpt_oss": True,
    "qwen3": True,
    "smollm2": True,
    "gemma3": False,
    "llama2": False,
    "llama3": False,
}
SHORT = 48


def short(ids: Sequence[int]) -> list[int] | str:
    """Return few ids as they are, and many as a digest."""
    return [*ids] if len(ids) <= SHORT else digest(ids)


def digest(ids: Sequence[int]) -> str:
    """Return how many ids there are and a hash of them all."""
    return f"{len(ids)}:{hashlib.sha256(repr([*ids]).encode()).hexdigest()[:12]}"
