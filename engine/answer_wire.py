"""What the two processes of `bessemer run` say to each other: one makes the prompt, one answers.

The first sends Begin, a OneAnswer once it has read the prompt, and Ask when it has heard by Ready
what the model is. Then it ends, and only then are weights read: both do not fit in memory.
"""

import os
from collections import deque
from typing import Any

from msgspec import Struct

from .request import Request
from .settings import OneAnswer, Settings
from .text.vocabulary import VocabularyFile
from .wire import Channel, Ready


class Begin(Struct, frozen=True, tag="begin"):
    """The model, bytes of memory for it, how to run it; and if a status line is `live`."""

    name: str
    directory: str
    memory: int
    settings: Settings
    live: bool


class Ask(Struct, frozen=True, tag="ask"):
    """The prompt, and the vocabulary of the answer."""

    request: Request
    vocabulary: VocabularyFile


ToAnswerer = Begin | OneAnswer | Ask


class Link:
    """One process's ends of the two pipes, in frames; `incoming` are the other's messages."""

    def __init__(self, reads: int, writes: int, incoming: Any) -> None:
        self._reads, self._writes = reads, writes
        self._channel = Channel(incoming)
        self._messages: deque[Any] = deque()

    def send(self, message: ToAnswerer | Ready) -> None:
        """Send a message, unless the other process has gone."""
        data = memoryview(self._channel.frame(message))
        try:
            while data:
                data = data[os.write(self._writes, data) :]
        except BrokenPipeError:
            return

    def receive(self) -> Any:
        """Wait for a message; return None where the other process has gone."""
        while not self._messages:
            if not (data := os.read(self._reads, 1 << 16)):
                return None
            self._messages.extend(self._channel.feed(data))
        return self._messages.popleft()


def answerer_link(reads: int, writes: int) -> Link:
    return Link(reads, writes, ToAnswerer)


def asker_link(reads: int, writes: int) -> Link:
    return Link(reads, writes, Ready)
