"""The line by which Claude Code says who pays: it changes with every request, and says no more."""

from dataclasses import replace

from .chat import Chat
from .parts import Text

MARK = "x-anthropic-billing-header:"  # begins the first block of its system prompt


def without_attribution(chat: Chat) -> Chat:
    """Return a conversation without that line, so that its prefix is what it was a turn before."""
    first = chat.messages[0] if chat.messages else None
    if first is None or first.role != "system" or not first.content:
        return chat
    part, *others = first.content
    if not isinstance(part, Text) or not part.text.startswith(MARK):
        return chat
    rest = part.text.partition("\n")[2].lstrip("\n")
    content = (Text(rest), *others) if rest else tuple(others)
    system = (replace(first, content=content),) if content else ()
    return replace(chat, messages=(*system, *chat.messages[1:]))
