"""The auto-router: a local model reads a request and chooses a route by what that is for."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from ...engine.request import Refusal
from ...translate.attribution import without_attribution
from ...translate.chat import Chat, GenerateRequest
from .auto_answer import answered
from .auto_likelihood import likeliest
from .auto_reader import Reader, first_words
from .routing import AUTO
from .schema import AutoRouterTable, RouteTable

Decode = Callable[[bytes], GenerateRequest]

# Below `LEGIBLE` parameters a model cannot tell what a request is about; below `FLUENT` it cannot
# answer which route fits, but finds the request likelier after the right description.
LEGIBLE, FLUENT = 50_000_000, 1_000_000_000
QUICK = 8192  # bytes of a body that is decoded at once
CONVERSATIONS = 10_000  # that are remembered


def read(table: AutoRouterTable, name: str) -> bool:
    """Return whether requests for a model's name are read."""
    return table.force or (table.enabled and name == AUTO)


@dataclass(frozen=True, slots=True)
class Choice:
    """A route's name, empty where none was chosen, and why, for people."""

    name: str
    why: str


class Choices:
    """What was chosen for the latest conversations."""

    def __init__(self, most: int = CONVERSATIONS) -> None:
        self._most = most
        self._names: OrderedDict[bytes, str] = OrderedDict()

    def find(self, conversation: bytes) -> str | None:
        if conversation in self._names:
            self._names.move_to_end(conversation)
        return self._names.get(conversation)

    def keep(self, conversation: bytes, name: str) -> None:
        self._names[conversation] = name
        self._names.move_to_end(conversation)
        if len(self._names) > self._most:
            self._names.popitem(last=False)


@dataclass(frozen=True, slots=True)
class AutoRouter:
    """Chooses among routes with a name and a description; `decoders` read a path's requests."""

    table: AutoRouterTable
    routes: Sequence[RouteTable]
    models: Mapping[str, Reader]
    decoders: Mapping[str, Decode]
    choices: Choices = field(default_factory=Choices)

    def reads(self, name: str) -> bool:
        """Return whether requests for a model's name are read."""
        return read(self.table, name)

    async def choose(self, path: str, body: bytes, caller: str) -> tuple[RouteTable | None, str]:
        """Return a request's route, or None, and why; what fails is no reason to refuse it."""
        decode = self.decoders.get(path)
        if decode is None:
            return None, "the auto-router reads no requests of this kind"
        try:
            late = len(body) >= QUICK
            request = await asyncio.to_thread(decode, body) if late else decode(body)
        except Refusal:  # its handler says so, too
            return None, "the auto-router cannot read the request"
        choice = await self.choice(request, caller)
        return next((each for each in self.routes if each.name == choice.name), None), choice.why

    async def choice(self, request: GenerateRequest, caller: str) -> Choice:
        """Return a conversation's choice: what was chosen for it before, or what its model does."""
        words = first_words(request)
        if not words or not self.described:
            return Choice("", "the auto-router has nothing to read")
        about = conversation(request, words, caller)
        kept = self.choices.find(about)
        if kept is not None and (not kept or any(each.name == kept for each in self.described)):
            return Choice(kept, "the auto-router has read this conversation before")
        try:
            async with asyncio.timeout(self.table.timeout_ms / 1000):
                choice = await self._asked(request, words, caller)
        except TimeoutError:
            return Choice("", f"the auto-router took more than {self.table.timeout_ms} ms")
        except Refusal as refusal:
            return Choice("", f"the auto-router failed: {refusal.message}")
        self.choices.keep(about, choice.name)
        return choice

    @property
    def described(self) -> Sequence[RouteTable]:
        return [each for each in self.routes if each.name and each.description]

    async def _asked(self, request: GenerateRequest, words: str, caller: str) -> Choice:
        model = self._model()
        if model is None:
            raise Refusal(
                503, "model_not_found", "no model that can choose is ready.", retry_after=1
            )
        if _size(model) < FLUENT:
            name, why = await likeliest(model, self.described, words, caller)
        else:
            name, why = await answered(model, self.described, request, caller)
        return Choice(name, f"the auto-router's {model.name} read it; {why}")

    def _model(self) -> Reader | None:
        """Return the model that is to choose, or the first that can."""
        named = self.table.model
        if named is not None:
            models: Iterable[Reader] = filter(None, [self.models.get(named)])
        else:
            models = self.models.values()
        return next((each for each in models if _size(each) >= LEGIBLE), None)


def _size(model: Reader) -> int:
    """Return the number of a model's parameters, 0 where nothing is known of it yet."""
    return model.about.parameters if model.about is not None else 0


def conversation(request: GenerateRequest, words: str, caller: str) -> bytes:
    """Return what tells one conversation of a caller's from the others."""
    told: list[str] = []
    if isinstance(request, Chat):
        chat = without_attribution(request)
        told = [each.text for each in chat.messages if each.role == "system"][:1]
    return sha256(msgspec.json.encode([caller, told, words])).digest()
