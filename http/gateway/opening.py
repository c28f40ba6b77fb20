"""What a gateway needs for as long as the server runs, from settings that may come anew."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from ...engine.request import Refusal
from ...translate.openai_responses_request import decode_request
from ..backends import Backend, Backends
from ..endpoints import DIALECTS
from ..local import Patience
from ..log import Log
from .auto_router import AutoRouter, Choices, Decode
from .budgets import Budgets
from .cascade import Cascade
from .catalog import Catalog
from .gateway import Gateway
from .remotes import Remotes
from .routing import Router
from .settings import GatewaySettings
from .spending import MEMORY, SpendingFile

# What the auto-router reads, by path.
DECODERS: Mapping[str, Decode] = {
    **{path: dialect.decode_request for path, dialect in DIALECTS.items()},
    "/v1/responses": lambda body: decode_request(body).chat(),
}


class Gateways:
    """The gateway of the newest settings, and the connections of those before.

    What is known of targets' health and of what keys have spent outlives them.
    """

    def __init__(self, models: dict[str, Backend], patience: Patience, log: Log) -> None:
        self._models = models
        self._patience = patience
        self._log = log
        self._cascade = Cascade()
        self._choices = Choices()
        self._spending: tuple[str, SpendingFile] | None = None
        self._opened: list[tuple[Remotes, Catalog]] = []

    async def open(self, settings: GatewaySettings) -> Backends:
        """Return what answers to names from now on. Raises UsageError, and nothing has changed."""
        budgets = self._budgets(settings)
        await self._rest()
        remotes, catalog = None, None
        if settings.providers:
            remotes = Remotes(settings.providers, self._patience)
            catalog = Catalog(remotes.by_name, self._log)
            self._opened.append((remotes, catalog))
        listed = catalog.listed if catalog is not None else {}
        router = Router(settings.tables, self._models, listed)
        auto = self._auto(settings)
        gateway = Gateway(router, budgets, auto, self._cascade, catalog)
        return Backends(self._models, gateway, remotes)

    def _auto(self, settings: GatewaySettings) -> AutoRouter | None:
        table = settings.tables.auto_router
        if not table.on:
            return None
        return AutoRouter(table, settings.tables.routes, self._models, DECODERS, self._choices)

    async def _rest(self) -> None:
        """Close what is idle of all that was opened."""
        for remotes, catalog in self._opened:
            catalog.close()
            await remotes.aclose()

    def _budgets(self, settings: GatewaySettings) -> Budgets | None:
        if not settings.keys:
            return None
        path = settings.spending or MEMORY
        if self._spending is None or (settings.spending and self._spending[0] != path):
            newer = SpendingFile(path, self._log.error)
            if self._spending is not None:
                self._spending[1].close()
            self._spending = path, newer
        return Budgets(settings.keys, settings.tables.prices, self._spending[1])

    def interrupt(self, refusal: Refusal) -> None:
        """End all answers under way, whoever gives them."""
        for model in self._models.values():
            model.interrupt(refusal)
        for remotes, _ in self._opened:
            remotes.interrupt(refusal)

    async def aclose(self) -> None:
        await self._rest()
        if self._spending is not None:
            self._spending[1].close()


@asynccontextmanager
async def gateways(
    models: dict[str, Backend], patience: Patience, log: Log
) -> AsyncIterator[Gateways]:
    """Yield what opens gateways, and close them all in the end."""
    opened = Gateways(models, patience, log)
    try:
        yield opened
    finally:
        await opened.aclose()
