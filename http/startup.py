"""Local models from their directories: each with its share of the machine, started together."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from ..engine.gguf.container import forget
from .about import About, about
from .backends import Backend, Backends
from .config import Config, UsageError
from .fleet import StartError, Worker
from .local import GenerationBackend, LoadingBackend, Patience
from .log import Log
from .machine import free_memory, total_memory
from .pace import Pace
from .pooling import EmbeddingBackend, RerankBackend
from .renderers import Chosen, chosen, open_renderer, read_tokenizer
from .shares import SHARE, cores, fits_machine, settings_of, shares
from .template_host import TemplateHost
from .watchdog import Limits

SILENCE = 2.0  # seconds that a watchdog waits at least: each second a sound worker gives a sign

POOLING = {"embed": EmbeddingBackend, "rerank": RerankBackend}


@asynccontextmanager
async def started(
    models: Mapping[str, Path],
    config: Config,
    log: Log,
    patience: Patience | None = None,
) -> AsyncIterator[Backends]:
    """Load all models, and supervise them. Raises UsageError if one of them cannot be served."""
    async with starting(models, config, log, patience) as (backends, loading):
        await loading
        yield backends


@asynccontextmanager
async def starting(
    models: Mapping[str, Path],
    config: Config,
    log: Log,
    patience: Patience | None = None,
) -> AsyncIterator[tuple[Backends, "asyncio.Task[None]"]]:
    """Supervise models that are being loaded by the task, and refuse until they are ready.

    The task raises UsageError if one of them cannot be served.
    """
    own = chosen(config, models)
    settings = settings_of(models, config.model, cores())
    fits_machine(sum(each.kv_cache for each in settings.values()), total_memory())
    # Texts are tokenized one by one; threads for it would only be warned of when workers start.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    budgets = shares(models, int(free_memory() * SHARE))
    about, pace = (log, watched(config)), Pace()
    workers = {
        name: Worker(name, path.absolute(), budgets[name], settings[name], *about, pace=pace)
        for name, path in models.items()
    }
    hosts = {name: TemplateHost(name, log) for name in models}
    patience, now = patience or Patience(), int(time.time())
    backends = Backends({name: LoadingBackend(name, now, each) for name, each in workers.items()})

    async def load(name: str) -> None:
        about = models[name], own[name], config, patience
        backends.models[name] = await _open(workers[name], hosts[name], *about)

    loading = asyncio.create_task(_together(load(name) for name in models))
    try:
        yield backends, loading
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await asyncio.gather(
            *(w.stop() for w in workers.values()), *(h.stop() for h in hosts.values())
        )


async def _together(loads: Iterable[Coroutine[None, None, None]]) -> None:
    """Load all models. Raises UsageError as soon as one cannot be served."""
    try:
        await asyncio.gather(*loads)
    except StartError as error:
        raise UsageError(str(error)) from None
    finally:
        forget()


def watched(config: Config) -> Limits:
    """Return the watchdog's limits; no request waits for a step that takes longer than these."""
    silence = max(config.watchdog, SILENCE)
    return Limits(silence, max(10 * silence, config.timeout))


def _about(path: Path) -> About | None:
    """Return what a model's files say; a flaw in them is told by what loads them."""
    try:
        return about(path)
    except (ValueError, OSError):
        return None


async def _open(
    worker: Worker,
    host: TemplateHost,
    path: Path,
    own: Chosen,
    config: Config,
    patience: Patience,
) -> Backend:
    """Load worker, tokenizer and chat template (`own` is what the user chose) side by side."""

    async def backend() -> Backend:
        created = int(time.time())
        purpose, tokenizer = await asyncio.to_thread(read_tokenizer, worker.name, path)
        files = await asyncio.to_thread(_about, path)
        if tokenizer is None:
            return POOLING[purpose](worker.name, created, worker, patience, about=files)
        renderer = await open_renderer(worker.name, tokenizer, own, host)
        await asyncio.to_thread(renderer.prepare)
        keeps = config.attribution == "keep"
        limits = config.max_tokens, patience, config.share_prefixes, config.context_overflow, keeps
        parts = worker, host, renderer, *limits
        return GenerationBackend(worker.name, created, *parts, about=files)

    _, model = await asyncio.gather(worker.start(), backend())
    return model
