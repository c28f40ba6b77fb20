"""What an auto-router's model has to be able to do, and what it reads of a request."""

import re
from collections.abc import AsyncGenerator, Iterator
from typing import Protocol

from ...translate.chat import Chat, Event, GenerateRequest
from ...translate.tokens import Tokenize, Tokens
from ..about import About

LONGEST = 2**16  # characters of a turn that are looked at, half of them at its end
BLOCKS = 100  # of a turn that are left out, at most
# What agents put into their users' turns: <system-reminder>, <environment_context>.
BLOCK = re.compile(r"<([A-Za-z]+[-_][\w-]*|[A-Z]{4,})>")


class Reader(Protocol):
    """A model that reads requests: a Backend, as far as it is needed here."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> About | None: ...

    def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]: ...

    async def tokenize(self, request: Tokenize) -> Tokens: ...


def first_words(request: GenerateRequest) -> str:
    """Return the first that a person says in a conversation, which stays the same in each turn."""
    texts = _said(request) if isinstance(request, Chat) else _prompts(request.prompts)
    return next((text for text in texts if text), "")


def _said(chat: Chat) -> Iterator[str]:
    turns = [shortened(each.text) for each in chat.messages if each.role == "user"]
    yield from map(without_blocks, turns)
    yield from map(str.strip, turns)


def _prompts(prompts: tuple[str | tuple[int, ...], ...]) -> Iterator[str]:
    yield from (shortened(each).strip() for each in prompts if isinstance(each, str))


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return the beginning and the end of what is too long."""
    return text if len(text) <= longest else f"{text[: longest // 2]}\n{text[-longest // 2 :]}"


def without_blocks(text: str) -> str:
    """Return a turn without the blocks in tags that no person writes."""
    for _ in range(BLOCKS):
        begun = BLOCK.search(text)
        if begun is None:
            break
        before, rest = text[: begun.start()], text[begun.end() :]
        _, closed, after = rest.partition(f"</{begun[1]}>")
        text = f"{before}\n{after}" if closed else f"{before}\n{rest}"
    return text.strip()
