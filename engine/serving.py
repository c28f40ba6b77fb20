"""A checkpoint made ready to serve: byte plan first, then weights, KV pool, tokenizer, engine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..architectures.config import ModelConfig
from ..architectures.registry import configure
from ..kernels.linear import activation_dtype
from ..kernels.pages import PAGE
from . import generation, kv_cache, tokenizer
from .checkpoint import Checkpoint, CheckpointError, open_checkpoint
from .engine import Engine
from .memory import Plan, plan
from .model import build
from .request import Sampling
from .runner import Runner
from .scheduler import Limits
from .text import AnswerText
from .tokenizer import Tokenizer
from .weights import stored_dtype

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U32": 4}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a model may use: bytes of memory and of KV pool (0: automatic), then as in Limits."""

    memory: int
    pool: int
    max_batch: int
    queue: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Serving:
    engine: Engine
    plan: Plan
    tokenizer: Tokenizer
    model_type: str
    defaults: Sampling


def load(directory: Path, settings: Settings) -> Serving:
    """Raises ValueError, in one sentence for the user, if the checkpoint cannot be served."""
    checkpoint = open_checkpoint(directory)
    config = configure(checkpoint.config)
    words = tokenizer.load(directory)
    if words.size > config.vocab_size:
        raise CheckpointError(
            f"{directory / 'tokenizer.json'} has {words.size} ids, but config.json says that "
            f"vocab_size is {config.vocab_size}: the files belong to different models"
        )
    defaults = generation.defaults(directory)
    ends = generation.ends(directory, words.eos)
    dtype = activation_dtype(stored_dtype(checkpoint))
    settled = _plan(checkpoint, config, settings, dtype.size)
    model = build(checkpoint, config)
    pools = kv_cache.allocate(
        config.layers, settled.pages + 1, config.kv_heads, config.head_dim, dtype
    )
    limits = Limits(settled.context, settings.max_batch, settings.queue, settings.chunk, PAGE)
    engine = Engine(Runner(model.decoder, pools), limits, settled.pages, ends, _text(words))
    return Serving(engine, settled, words, config.model_type, defaults)


def _text(words: Tokenizer) -> Callable[[Sequence[str], int], AnswerText]:
    return lambda stops, least: words.answer_text(stops, least)


def _plan(checkpoint: Checkpoint, config: ModelConfig, settings: Settings, itemsize: int) -> Plan:
    weights = sum(
        math.prod(header.shape) * ITEM_BYTES.get(header.dtype, 4)
        for header in checkpoint.tensors.values()
    )
    return plan(
        budget=settings.memory,
        weights=weights,
        working=_working(config, settings),
        page=kv_cache.page_bytes(config.layers, config.kv_heads, config.head_dim, itemsize),
        page_tokens=PAGE,
        context=config.context,
        pool=settings.pool,
    )


def _working(config: ModelConfig, settings: Settings) -> int:
    """An estimate, in float32: a few activations of a step's rows, and its logits three times."""
    rows = settings.chunk + settings.max_batch
    widths = 6 * config.hidden_size + 3 * config.intermediate_size
    return 4 * (rows * widths + 3 * settings.max_batch * config.vocab_size)
