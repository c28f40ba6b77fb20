"""Conversations cut to a model's context, where their clients ask for that."""

from ...engine.request import Refusal
from ...translate.chat import Chat
from ...translate.truncation import beginnings, begun_at
from ..backends import Backend

SHARE = 4  # of the context is left to an answer that names no length, or a longer one


async def fitted(backend: Backend, chat: Chat) -> Chat:
    """Return the conversation with as few of its first turns gone as the context asks for.

    What is too long even then is left to be refused.
    """
    context = backend.status().context
    if context is None:
        return chat
    room = min(chat.options.max_tokens or context, context // SHARE)

    async def fits(shorter: Chat) -> bool:
        try:
            return await backend.count(shorter) + room <= context
        except Refusal as refusal:
            if refusal.code != "context_length_exceeded":
                raise
            return False

    starts = beginnings(chat)
    if not starts or await fits(chat):
        return chat
    low, high = 0, len(starts) - 1  # the first that fits is behind low, and not behind high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if await fits(begun_at(chat, starts[middle])) else (middle, high)
    return begun_at(chat, starts[high])
