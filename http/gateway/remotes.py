"""The providers of a configuration: a client for each, and backends of whatever model is meant."""

from collections.abc import Mapping
from dataclasses import replace

from ...engine.request import Refusal
from ...translate.upstream.table import UPSTREAMS
from ..activity import Activity
from ..local import Patience
from .backend import Count, RemoteBackend
from .client import HttpClient
from .provider import Provider
from .remote import Remote
from .routing import Meant

UNHEARD = 86400.0  # seconds: no sign of life before the first byte where another may give it


class Remotes:
    """Providers by name. `estimate` counts tokens for those that do not."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        patience: Patience,
        estimate: Count | None = None,
    ) -> None:
        self.by_name = {
            name: Remote(each, UPSTREAMS[each.format], HttpClient(each))
            for name, each in providers.items()
        }
        self._activity = {name: Activity() for name in providers}
        self._patience = patience
        self._estimate = estimate

    def backend(self, meant: Meant) -> RemoteBackend:
        """Return what asks a provider for a model; one after which others are asked is silent."""
        assert meant.target.provider is not None
        name, model = meant.target.provider, meant.target.model
        patience = self._patience
        if not meant.last:
            patience = replace(patience, heartbeat=UNHEARD)
        return RemoteBackend(
            model,
            model,
            self.by_name[name],
            patience,
            meant.lossy,
            self._estimate,
            activity=self._activity[name],
        )

    def interrupt(self, refusal: Refusal) -> None:
        for each in self.by_name.values():
            each.interrupt(refusal)

    async def aclose(self) -> None:
        """Close what is idle; answers under way close their connections themselves."""
        for each in self.by_name.values():
            await each.client.aclose()
