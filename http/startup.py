"""Local models from their directories: each with its share of the machine, started together."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
from msgspec import structs

from ..engine.checkpoint.weight_files import CheckpointError, weight_files
from ..engine.embedding.sentence_transformers import (
    DescriptionError,
    Purpose,
    describe,
    read_modules,
)
from ..engine.memory import size
from ..engine.settings import OneAnswer, Settings
from ..engine.text.loading import load_tokenizer
from ..engine.text.tokenizer import Tokenizer, TokenizerError
from ..translate.chat import Chat
from ..translate.parsers.formats import choose
from ..translate.renderer import Renderer
from ..translate.template_source import pick
from .backends import Backend, Backends
from .config import Config, UsageError
from .fleet import StartError, Worker
from .hub import at_home
from .local import (
    EmbeddingBackend,
    GenerationBackend,
    LoadingBackend,
    Patience,
    RerankBackend,
)
from .log import Log
from .machine import free_memory, group_cores, total_memory
from .pace import Pace
from .template_host import TemplateHost
from .watchdog import Limits

SHARE = 0.8  # of the memory that is free at start; the rest is the system's and other programs'
SILENCE = 2.0  # seconds that a watchdog waits at least: each second a sound worker gives a sign

POOLING = {"embed": EmbeddingBackend, "rerank": RerankBackend}


@asynccontextmanager
async def started(
    models: Mapping[str, Path],
    config: Config,
    log: Log,
    patience: Patience | None = None,
    question: Chat | None = None,
) -> AsyncIterator[Backends]:
    """Load all models, and supervise them. Raises UsageError if one of them cannot be served.

    Where there is a `question`, its answer is the only one that a model has memory for.
    """
    async with starting(models, config, log, patience, question) as (backends, loading):
        await loading
        yield backends


@asynccontextmanager
async def starting(
    models: Mapping[str, Path],
    config: Config,
    log: Log,
    patience: Patience | None = None,
    question: Chat | None = None,
) -> AsyncIterator[tuple[Backends, "asyncio.Task[None]"]]:
    """Supervise models that are being loaded by the task, and refuse until they are ready.

    The task raises UsageError if one of them cannot be served.
    """
    own = chat_templates(config.chat_template, models)
    fits_machine(config.model.kv_cache * len(models), total_memory())
    # Texts are tokenized one by one; threads for it would only be warned of when workers start.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    budgets = shares(models, int(free_memory() * SHARE))
    settings = with_threads(config.model, len(models))
    about, pace = (settings, log, watched(config)), Pace()
    workers = {
        name: Worker(name, path.absolute(), budgets[name], *about, pace=pace)
        for name, path in models.items()
    }
    hosts = {name: TemplateHost(name, log) for name in models}
    patience, now = patience or Patience(), int(time.time())
    backends = Backends({name: LoadingBackend(name, now, each) for name, each in workers.items()})

    async def load(name: str) -> None:
        about = models[name], own.get(name), config, patience, question
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


def watched(config: Config) -> Limits:
    """Return the watchdog's limits; no request waits for a step that takes longer than these."""
    silence = max(config.watchdog, SILENCE)
    return Limits(silence, max(10 * silence, config.timeout))


def chat_templates(entries: Sequence[str], models: Mapping[str, Path]) -> dict[str, str]:
    """Read the templates that a user gives, FILE for all models or NAME=FILE. Raises UsageError."""
    templates: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: entry.partition("=")[0] in models):
        name, _, file = entry.partition("=")
        named = name in models and bool(file)
        path = at_home(file if named else entry)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(
                f"the chat template {path} cannot be read ({reason}); name a file, or NAME=FILE "
                f"with NAME one of {', '.join(models)}"
            ) from None
        templates |= dict.fromkeys([name] if named else models, text)
    return templates


def cores() -> int:
    """Count the physical cores of this process: a core's second thread adds only waiting.

    A container's quota counts too.
    """
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed, *group_cores())


def shares(models: Mapping[str, Path], memory: int) -> dict[str, int]:
    """Give each model the bytes of its weights, and an equal share of what all weights leave."""
    weights = {name: _weights(path) for name, path in models.items()}
    left = max(memory - sum(weights.values()), 0)
    return {name: size + left // len(models) for name, size in weights.items()}


def _weights(path: Path) -> int:
    """Return the bytes of the weights; 0 where they are not sound, as the worker will say."""
    try:
        files = weight_files(read_modules(path).backbone).files
    except (CheckpointError, DescriptionError):
        return 0
    return sum(file.stat().st_size for file in files)


def with_threads(settings: Settings, models: int) -> Settings:
    """Return the settings with a model's share of the cores where the user names no number."""
    return structs.replace(settings, threads=settings.threads or max(cores() // models, 1))


async def _open(
    worker: Worker,
    host: TemplateHost,
    path: Path,
    own: str | None,
    config: Config,
    patience: Patience,
    question: Chat | None,
) -> Backend:
    """Load worker, tokenizer and chat template (`own` is the user's) side by side."""

    async def backend() -> Backend:
        created = int(time.time())
        purpose, tokenizer = await asyncio.to_thread(_files, worker.name, path)
        if tokenizer is None:
            return POOLING[purpose](worker.name, created, worker, patience)
        source = own if own is not None else tokenizer.chat_template
        text = None if source is None else pick(source)
        told = own is not None or question is not None
        if (fault := await host.start(text, tokenizer.special_tokens, told)) and own is not None:
            raise StartError(f"{worker.name}: its --chat-template cannot be used: {fault}")
        format = choose(text or "", tokenizer.special_names.values())
        renderer = Renderer(tokenizer, format, text or "", config.model.parse_special)
        await asyncio.to_thread(renderer.prepare)
        limits = config.max_tokens, patience, config.share_prefixes
        return GenerationBackend(worker.name, created, worker, host, renderer, *limits)

    opening = asyncio.ensure_future(backend())

    async def for_one_answer(chat: Chat) -> Settings:
        model, settings = await opening, with_threads(config.model, 1)
        length = await model.count(chat) + config.max_tokens
        assert isinstance(model, GenerationBackend)  # others refuse to count
        only = OneAnswer(length, model.renderer.tokenizer.eos)
        return structs.replace(settings, max_batch=1, one_answer=only)

    start = worker.start(None if question is None else partial(for_one_answer, question))
    _, model = await asyncio.gather(start, opening)
    return model


def fits_machine(pools: int, memory: int) -> None:
    """Refuse KV caches that are larger than the machine. Raises UsageError."""
    if pools > memory:
        raise UsageError(
            f"--kv-cache asks for {size(pools)} in all, but this machine has {size(memory)} of "
            "memory; leave it out, and it takes what fits"
        )


def _files(name: str, path: Path) -> tuple[Purpose, Tokenizer | None]:
    """Read what a model is for, and the tokenizer of one that writes. Raises StartError."""
    try:
        purpose = describe(path).purpose
        return purpose, load_tokenizer(path) if purpose == "generate" else None
    except (DescriptionError, TokenizerError) as error:
        raise StartError(f"{name}: {error}") from None
