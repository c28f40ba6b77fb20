"""Anthropic's messages as requests have them: turns, their blocks, and tools."""

from typing import Any

from msgspec import Struct

from .anthropic_documents import Source
from .parts import Kept


class CacheControl(Struct):
    """Marks the end of what is to be kept in the cache."""

    ttl: str | None = None


class InputTool(Struct):
    """A tool; a `type` other than custom is one that Anthropic's servers have."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    cache_control: CacheControl | None = None


class ChangedTool(Struct):
    """What a block of the system's brings in, or takes away: a tool by its name, or itself."""

    type: str
    name: str | None = None
    definition: InputTool | None = None


class InputBlock(Struct, omit_defaults=True):
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | list[InputBlock] | dict[str, Any] | None" = None
    is_error: bool | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    url: str | None = None
    tool_name: str | None = None
    tool: ChangedTool | None = None
    data: str | None = None
    cache_control: CacheControl | None = None


def kept(marked: InputBlock | InputTool) -> Kept:
    """Return for how long the prompt is to be kept up to the end of this."""
    if marked.cache_control is None:
        return ""
    return "1h" if marked.cache_control.ttl == "1h" else "5m"


class Effort(Struct):
    effort: str | None = None


class InputMessage(Struct):
    """A turn; one of the system's may be there for the user's next turn alone, by `clear_at`.

    It may also say how much effort is made from there on.
    """

    role: str
    content: str | list[InputBlock]
    clear_at: str | None = None
    output_config: Effort | None = None
