"""The models that providers have, by their own lists: asked for, kept for a while, and no more than
a line of the log where a provider does not tell."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import msgspec
from msgspec import Struct

from ...engine.request import Refusal
from ...translate.upstream.upstream import Format
from ..log import Log
from .connection import no_answer
from .remote import Remote

FRESH = 300.0  # seconds that a list is good for
AGAIN = 30.0  # seconds until a provider that did not tell is asked again
PATIENCE = 2.0  # seconds that whoever wants all names waits for them
LARGEST = 2**23  # bytes of a list; OpenRouter's has a megabyte
MOST = 10_000  # models of a provider
OPENAI = "/v1/models"
PATHS: Mapping[Format, str] = {
    "openai": OPENAI,
    "responses": OPENAI,
    "anthropic": f"{OPENAI}?limit=1000",
    "ollama": "/api/tags",
}


class _Model(Struct):
    id: str = ""
    name: str = ""  # Ollama's


class _List(Struct):
    data: list[_Model] = []
    models: list[_Model] = []  # Ollama's


LIST = msgspec.json.Decoder(_List)


class Catalog:
    """The names of providers' models; those of settings are not asked for.

    `listed` has them by provider as far as they are known, and is the same object for ever.
    """

    def __init__(
        self,
        remotes: Mapping[str, Remote],
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remotes = {n: each for n, each in remotes.items() if each.provider.models is None}
        self._log, self._clock = log, clock
        self._due = dict.fromkeys(self._remotes, clock())
        self._asking: asyncio.Task[None] | None = None
        self.listed: dict[str, Sequence[str]] = {
            name: each.provider.models or () for name, each in remotes.items()
        }

    async def refresh(self) -> None:
        """Ask for the lists that are not fresh; wait for them a moment, and no longer."""
        if self._asking is None or self._asking.done():
            old = [name for name, due in self._due.items() if due <= self._clock()]
            if not old:
                return
            self._asking = asyncio.ensure_future(self._ask(old))
        await asyncio.wait((self._asking,), timeout=PATIENCE)

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self, names: Sequence[str]) -> None:
        await asyncio.gather(*map(self._update, names))

    async def _update(self, name: str) -> None:
        self._due[name] = self._clock() + AGAIN
        try:
            self.listed[name] = await models_of(self._remotes[name])
        except Refusal as refusal:  # what is known of it stays
            self._log.warning(f"no list of models from {name}: {refusal}")
        else:
            self._due[name] = self._clock() + FRESH


async def models_of(remote: Remote) -> tuple[str, ...]:
    """Return the names of all models that a provider says it has. Raises Refusal."""
    provider = remote.provider
    exchange = await remote.ask(PATHS[provider.format], method="GET")
    with closing(exchange):
        body = await exchange.read(LARGEST)
    try:
        told = LIST.decode(body)
    except ValueError as error:
        raise no_answer(provider.name, str(error)) from None
    names = (each.id or each.name for each in (*told.data, *told.models)[:MOST])
    return tuple(name for name in dict.fromkeys(names) if name)
