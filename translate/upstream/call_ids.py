"""Ids of calls and results as a server takes them, whatever a client has them by."""

import re

from ..chat import Message, ToolCall

OTHER = re.compile(r"[^A-Za-z0-9_-]")  # than an id has, at Anthropic's and OpenAI's
LONGEST = 64


class CallIds:
    """The ids of one conversation, in the order of its turns.

    What has none, as the functions that were there before tools, is matched by its name.
    """

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._taken: set[str] = set()
        self._waiting: list[tuple[str, str]] = []  # names and ids of calls without any

    def of_call(self, call: ToolCall) -> str:
        if call.id:
            return self._written(call.id)
        id = self._new("call")
        self._waiting.append((call.name, id))
        return id

    def of_result(self, message: Message) -> str:
        if message.result_of:
            return self._written(message.result_of)
        names = [name for name, _ in self._waiting]
        if not names:
            return self._new("call")
        at = names.index(message.name) if message.name in names else 0
        return self._waiting.pop(at)[1]

    def _written(self, id: str) -> str:
        if id not in self._ids:
            written = OTHER.sub("_", id)[:LONGEST]
            self._ids[id] = written if written not in self._taken else self._new(written[:48])
            self._taken.add(self._ids[id])
        return self._ids[id]

    def _new(self, start: str) -> str:
        number = len(self._taken)
        while f"{start}_{number}" in self._taken:
            number += 1
        self._taken.add(f"{start}_{number}")
        return f"{start}_{number}"
