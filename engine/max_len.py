"""How long a sequence may become, for rotary positions that depend on it."""

from collections.abc import Sequence

from ..architectures.config import Rope
from .request import Request


def max_len_of(request: Request, context: int) -> int:
    """Return the most tokens that prompt and answer may have together."""
    return min(len(request.tokens) + request.max_tokens, context)


def rope_key(ropes: Sequence[Rope], max_len: int) -> str:
    """Return a key that is equal where positions are rotated alike, so that pages can be shared."""
    return ",".join(filter(None, (_rope_key(rope, max_len) for rope in ropes)))


def _rope_key(rope: Rope, max_len: int) -> str:
    if rope.kind == "longrope":
        return "long" if max_len > rope.original_context else ""
    return str(max_len) if rope.kind == "dynamic" and max_len > rope.context else ""
