"""Local models from their directories: each with its share of the machine, started together."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from msgspec import structs

from ..engine.checkpoint.weight_files import CheckpointError, weight_files
from ..engine.embedding.sentence_transformers import DescriptionError, describe, read_modules
from ..engine.settings import Settings
from ..engine.text.loading import load_tokenizer
from ..engine.text.tokenizer import TokenizerError
from ..translate.parsers.formats import choose
from ..translate.renderer import Renderer
from ..translate.template import ChatTemplate, pick
from .backends import Backend, Backends
from .config import Config, UsageError
from .fleet import StartError, Worker
from .local import EmbeddingBackend, GenerationBackend, Patience, RerankBackend
from .log import Log

SHARE = 0.8  # of the memory that is free at start; the rest is the system's and other programs'

POOLING = {"embed": EmbeddingBackend, "rerank": RerankBackend}


@asynccontextmanager
async def started(
    models: Mapping[str, Path], config: Config, log: Log, patience: Patience | None = None
) -> AsyncIterator[Backends]:
    """Load and supervise all models. Raises UsageError if one of them cannot be served."""
    budgets = shares(models, int(psutil.virtual_memory().available * SHARE))
    settings = with_threads(config.model, len(models))
    workers = {
        name: Worker(name, path.absolute(), budgets[name], settings, log)
        for name, path in models.items()
    }
    try:
        served = await asyncio.gather(
            *(
                _open(worker, models[name], config.max_tokens, patience or Patience())
                for name, worker in workers.items()
            )
        )
        yield Backends({model.name: model for model in served})
    except StartError as error:
        raise UsageError(str(error)) from None
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers.values()))


def cores() -> int:
    """Count the physical cores of this process: a core's second thread adds only waiting."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


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


async def _open(worker: Worker, path: Path, max_tokens: int, patience: Patience) -> Backend:
    """Load worker and tokenizer side by side."""
    backend = asyncio.to_thread(_backend, worker, path, max_tokens, patience)
    _, model = await asyncio.gather(worker.start(), backend)
    return model


def _backend(worker: Worker, path: Path, max_tokens: int, patience: Patience) -> Backend:
    created = int(time.time())
    try:
        purpose = describe(path).purpose
        if purpose != "generate":
            return POOLING[purpose](worker.name, created, worker)
        tokenizer = load_tokenizer(path)
    except (DescriptionError, TokenizerError) as error:
        raise StartError(f"{worker.name}: {error}") from None
    source = tokenizer.chat_template
    text = None if source is None else pick(source)
    template = ChatTemplate(text, special_tokens=tokenizer.special_tokens)
    renderer = Renderer(tokenizer, template, choose(text or "", tokenizer.special_names.values()))
    return GenerationBackend(worker.name, created, worker, renderer, max_tokens, patience)
