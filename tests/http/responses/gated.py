"""A backend whose answers wait for a test, and a server that keeps responses."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as Flag

from openai import OpenAI

from bessemer.http.responses.background import BackgroundResponses
from bessemer.http.responses.keeping import KeptResponses
from bessemer.http.responses.store import MEMORY, ResponseStore
from bessemer.translate.chat import Event, GenerateRequest, Heartbeat
from tests.http.toy import ToyBackend
from tests.http.toy_server import serving


@dataclass
class GatedBackend(ToyBackend):
    """Says its first events, and the rest once its gate is open."""

    first: int = 3
    gate: Flag = field(default_factory=Flag)
    beats: bool = False  # gives signs of life meanwhile, by which a closed connection is noticed

    async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        said = super().events(request)
        try:
            at = 0
            async for event in said:
                yield event
                at += 1
                while at == self.first and not self.gate.is_set():
                    await asyncio.sleep(0.002)
                    if self.beats:
                        yield Heartbeat()
        finally:
            await said.aclose()


@contextmanager
def keeping(*models: ToyBackend, path: str = MEMORY, keys: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the base URL of a server that keeps responses."""
    store = ResponseStore(path)
    kept = KeptResponses(store, BackgroundResponses(store))
    try:
        with serving(*models, kept=kept, keys=keys) as port:
            yield f"http://127.0.0.1:{port}/v1"
    finally:
        store.close()


def client(url: str, key: str = "x") -> OpenAI:
    return OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)
