"""A checkpoint made ready to serve: byte plan first, then weights, KV pool, tokenizer, engine."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..architectures.config import ModelConfig
from ..architectures.registry import configure
from ..kernels.attention import is_fused
from ..kernels.attention_metal import self_test
from ..kernels.cpu.library import compiled, use_threads
from ..kernels.metal.device import Gpu, device
from ..kernels.pages import FORMATS, PAGE, TAIL_PAGES, Format
from ..kernels.weight import activation_dtype
from . import generation, kv_cache, tokenizer
from .checkpoint import Checkpoint, CheckpointError, open_checkpoint
from .engine import Engine
from .memory import Plan, plan
from .model import Model, build
from .request import Sampling
from .runner import Runner
from .scheduler import Limits
from .tails import Tails
from .text import AnswerText
from .tokenizer import Tokenizer
from .weights import stored_dtype
from .wire import Pattern

SELF_TESTS = 1000  # steps of writing in place on a GPU, before it is trusted
QUANTIZED = {4: Format.INT4, 8: Format.INT8}
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U32": 4}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a model may use: bytes of memory and of KV pool (0: automatic), then as in Limits.

    On a CPU: `threads` (0: as many as there are cores), and whether activations stay in float32;
    `kv_bits` of a key's or value's number, 0 for what fits the weights. On Metal: how keys and
    values are appended.
    """

    memory: int
    pool: int
    max_batch: int
    queue: int
    chunk: int
    threads: int = 0
    exact: bool = False
    kv_bits: int = 0
    kv_pattern: Pattern = "tail"


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
    format = _format(stored_dtype(checkpoint), settings)
    if settings.threads:
        use_threads(settings.threads)
    settled = _plan(checkpoint, config, settings, format)
    model = build(checkpoint, config, settings.exact)
    runner = _runner(model, config, settled, format, settings)
    limits = Limits(settled.context, settings.max_batch, settings.queue, settings.chunk, PAGE)
    engine = Engine(runner, limits, settled.pages, ends, _text(words))
    return Serving(engine, settled, words, config.model_type, defaults)


def _runner(
    model: Model, config: ModelConfig, settled: Plan, format: Format, settings: Settings
) -> Runner:
    """With its pools."""
    pattern = _pattern(model, format, settings)
    pools = kv_cache.allocate(
        config.layers,
        settled.pages + 1,
        config.kv_heads,
        config.head_dim,
        config.head_dim,
        format,
        pattern,
    )
    return Runner(model.decoder, pools, Tails(PAGE, TAIL_PAGES) if pattern == "tail" else None)


def _pattern(model: Model, format: Format, settings: Settings) -> Pattern:
    """Only Metal kernels append in another way than the functional one, if all layers have them."""
    dtype = model.decoder.dtype
    if not all(is_fused(block.attention.heads, format, dtype) for block in model.decoder.blocks):
        return "functional"
    wanted = settings.kv_pattern
    if wanted == "in-place" and isinstance(device(), Gpu) and not self_test(SELF_TESTS):
        message = "warning: this GPU does not keep to writing in place, so --metal-kv is tail"
        print(message, file=sys.stderr)
        return "tail"
    return wanted


def _format(stored: mx.Dtype, settings: Settings) -> Format:
    """On a CPU keys and values of 16-bit models are binary16, which is finer than bfloat16."""
    if settings.kv_bits in QUANTIZED:
        return QUANTIZED[settings.kv_bits]
    computed = activation_dtype(stored)
    if computed != mx.float32:
        return FORMATS[computed]
    wide = settings.exact or (stored == mx.float32 and settings.kv_bits != 16)
    return Format.FLOAT32 if wide or not compiled() else Format.FLOAT16


def _text(words: Tokenizer) -> Callable[[Sequence[str], int], AnswerText]:
    return lambda stops, least: words.answer_text(stops, least)


def _plan(checkpoint: Checkpoint, config: ModelConfig, settings: Settings, format: Format) -> Plan:
    weights = sum(
        math.prod(header.shape) * ITEM_BYTES.get(header.dtype, 4)
        for header in checkpoint.tensors.values()
    )
    return plan(
        budget=settings.memory,
        weights=weights,
        working=_working(config, settings),
        page=kv_cache.page_bytes(
            config.layers, config.kv_heads, config.head_dim, config.head_dim, format
        ),
        page_tokens=PAGE,
        context=config.context,
        pool=settings.pool,
    )


def _working(config: ModelConfig, settings: Settings) -> int:
    """An estimate, in float32: a few activations of a step's rows, and its logits three times."""
    rows = settings.chunk + settings.max_batch
    widths = 6 * config.hidden_size + 3 * config.intermediate_size
    return 4 * (rows * widths + 3 * settings.max_batch * config.vocab_size)
