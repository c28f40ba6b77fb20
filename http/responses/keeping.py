"""What a server keeps of responses, from its settings, for as long as it runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ..config import MEMORY, OFF, Config, UsageError
from ..log import Log
from . import store
from .background import BackgroundResponses
from .store import ResponseStore, StoreError, StoreLimits

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class KeptResponses:
    """The responses that are kept, and those among them that are still being made."""

    store: ResponseStore
    background: BackgroundResponses


@asynccontextmanager
async def keeping(config: Config, log: Log) -> AsyncIterator[KeptResponses | None]:
    """Keep responses as the settings say; None: not at all. Raises UsageError."""
    where = config.responses_store
    if where == OFF:
        yield None
        return
    path = store.MEMORY if where == MEMORY else str(Path(where).expanduser())
    limits = StoreLimits(config.responses_size, config.responses_age * DAY)
    try:
        responses = ResponseStore(path, limits, complain=log.error)
    except StoreError as error:
        raise UsageError(f"--responses-store {where}: {error}") from None
    background = BackgroundResponses(responses)
    try:
        yield KeptResponses(responses, background)
    finally:
        await background.close()
        responses.close()
