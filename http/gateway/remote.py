"""A provider, how it is asked, and the connections to it."""

import re
from contextlib import closing
from dataclasses import dataclass

from ...engine.request import Refusal
from ...translate.upstream.upstream import Upstream
from ..routes import VERSION
from .client import Exchange, HttpClient
from .connection import no_answer
from .headers import asking, retry_after
from .provider import Provider

ERROR = 2**20  # bytes of an answer that is an error
SECRET, HIDDEN = 12, "***"  # characters of a key that is one, and what stands for it
VERSIONED = re.compile(r"/v\d[^/]*(/|$)")  # a base URL that says the version of its API


@dataclass(frozen=True, slots=True)
class Remote:
    """A provider, the dialect that it is asked in, and the connections to it."""

    provider: Provider
    upstream: Upstream
    client: HttpClient

    def target(self, path: str) -> str:
        """Return where a path is that its dialect's own server has.

        Base URLs are given with and without /v1, and some versions have another place.
        """
        base = self.client.path
        if not path.startswith(VERSION):
            return base.removesuffix(VERSION) + path
        return base + (path.removeprefix(VERSION) if VERSIONED.search(base) else path)

    async def ask(
        self,
        path: str,
        body: bytes = b"",
        key: str = "",
        stream: bool = False,
        method: str = "POST",
    ) -> Exchange:
        """Ask on behalf of a client with this key; an answer that is an error is raised."""
        headers = asking(key, stream, self.upstream, self.provider)
        exchange = await self.client.ask(method, self.target(path), headers, body)
        if exchange.status < 300:
            return exchange
        with closing(exchange):
            raise self._refusal(exchange, await exchange.read(ERROR))

    def _refusal(self, exchange: Exchange, body: bytes) -> Refusal:
        """Return the refusal that an error means."""
        if exchange.status < 400:
            return no_answer(self.provider.name, f"its url leads elsewhere ({exchange.status})")
        refusal = self.upstream.decode_error(exchange.status, body)
        refusal.message = self.keyless(refusal.message)
        refusal.retry_after = retry_after(exchange.headers) or refusal.retry_after
        return refusal

    def keyless(self, text: str) -> str:
        """Return what a provider says without its key, which some repeat."""
        key = self._secret
        return text.replace(key, HIDDEN) if key and key in text else text

    def keyless_bytes(self, data: bytes) -> bytes:
        """Return the same of bytes, which are mostly as they were."""
        key = self._secret.encode()
        return data.replace(key, HIDDEN.encode()) if key and key in data else data

    @property
    def _secret(self) -> str:
        """The key, unless it is a word that servers without keys are given as one."""
        key = self.provider.api_key or ""
        return key if len(key) >= SECRET else ""

    def interrupt(self, refusal: Refusal) -> None:
        self.client.interrupt(refusal)
