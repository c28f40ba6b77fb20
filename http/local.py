"""Local models from their directories: each with its share of the machine, started together."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from msgspec import structs

from ..engine import tokenizer
from ..engine.sentence import SentenceError, describe
from ..engine.settings import Settings
from ..translate.template import ChatTemplate, pick
from .backends import Backends, Encoder, Local, Served
from .config import Config, UsageError
from .fleet import StartError, Worker
from .log import Log

SHARE = 0.8  # of the memory that is free at start; the rest is the system's and other programs'


@asynccontextmanager
async def started(models: Mapping[str, Path], config: Config, log: Log) -> AsyncIterator[Backends]:
    """All models, loaded and supervised. Raises UsageError if one of them cannot be served."""
    budgets = shares(models, int(psutil.virtual_memory().available * SHARE))
    settings = with_threads(config.model, len(models))
    workers = {
        name: Worker(name, path.absolute(), budgets[name], settings, log)
        for name, path in models.items()
    }
    try:
        opened = await asyncio.gather(
            *(_open(worker, models[name]) for name, worker in workers.items())
        )
        yield Backends({model.name: model for model in opened})
    except StartError as error:
        raise UsageError(str(error)) from None
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers.values()))


def cores() -> int:
    """Physical cores that this process may use: a core's second thread adds nothing but waiting."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


def shares(models: Mapping[str, Path], memory: int) -> dict[str, int]:
    """Bytes for each model: its weights, and an equal share of what all the weights leave."""
    weights = {name: _weights(path) for name, path in models.items()}
    left = max(memory - sum(weights.values()), 0)
    return {name: size + left // len(models) for name, size in weights.items()}


def _weights(path: Path) -> int:
    """In bytes; sentence-transformers may keep them in a folder of their own."""
    files = [*path.glob("*.safetensors")] or [*path.glob("*/*.safetensors")]
    return sum(file.stat().st_size for file in files)


def with_threads(settings: Settings, models: int) -> Settings:
    """Its share of the cores for each of so many models, where the user names no number."""
    return structs.replace(settings, threads=settings.threads or max(cores() // models, 1))


async def _open(worker: Worker, path: Path) -> Served:
    """Worker and tokenizer load side by side."""
    _, model = await asyncio.gather(worker.start(), asyncio.to_thread(_described, worker, path))
    return model


def _described(worker: Worker, path: Path) -> Served:
    created = int(time.time())
    try:
        kind = describe(path).purpose
        if kind != "generate":
            return Encoder(worker.name, created, worker, kind)
        words = tokenizer.load(path)
    except (SentenceError, tokenizer.TokenizerError) as error:
        raise StartError(f"{worker.name}: {error}") from None
    source = words.chat_template
    template = ChatTemplate(
        None if source is None else pick(source), special_tokens=words.special_tokens
    )
    return Local(worker.name, created, worker, words, template)
