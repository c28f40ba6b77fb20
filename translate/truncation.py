"""Conversations without their beginning, for those that are too long for a model's context."""

from collections.abc import Sequence
from dataclasses import replace

from .chat import Chat


def beginnings(chat: Chat) -> Sequence[int]:
    """Return the turns that a conversation may begin with: no results whose calls are gone."""
    turns = enumerate(chat.messages)
    return [at for at, turn in turns if turn.role not in ("system", "tool")]


def begun_at(chat: Chat, at: int) -> Chat:
    """Return the conversation from a turn on, with all that the system says before it."""
    system = (turn for turn in chat.messages[:at] if turn.role == "system")
    return replace(chat, messages=(*system, *chat.messages[at:]))
