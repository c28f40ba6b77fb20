"""How long a sequence may become, for rotary positions that depend on it."""

from collections.abc import Sequence

from ..architectures.config import Rope
from .request import Request


def reach_of(request: Request, context: int) -> int:
    """In tokens, prompt and answer together."""
    return min(len(request.tokens) + request.max_tokens, context)


def reach_class(ropes: Sequence[Rope], reach: int) -> str:
    """The same for sequences whose tokens are turned alike, so that they can share keys."""
    return ",".join(filter(None, (_class(rope, reach) for rope in ropes)))


def _class(rope: Rope, reach: int) -> str:
    if rope.kind == "longrope":
        return "long" if reach > rope.original_context else ""
    return str(reach) if rope.kind == "dynamic" and reach > rope.context else ""
