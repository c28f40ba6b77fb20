"""A checkpoint made ready to serve: byte plan first, then weights, KV pool, tokenizer, engine."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from msgspec.structs import replace

from ..architectures.config import ModelConfig
from ..architectures.registry import configure
from ..kernels.attention.attention_metal import self_test
from ..kernels.attention.decoding import is_fused
from ..kernels.attention.pages import FORMATS, PAGE, Append, Format
from ..kernels.cpu.library import compiled, use_threads
from ..kernels.metal.device import Gpu, device
from ..kernels.registry import activation_dtype
from .checkpoint.checkpoint import Checkpoint, open_checkpoint
from .checkpoint.generation_config import read_generation_config
from .checkpoint.weights import Reading, rename_tensors, stored_dtype, weight_bytes, widening
from .embedding.sentence_transformers import Description, describe
from .engine import Engine
from .grammar.compiler import Compiler
from .grammar.grammars import Grammars
from .kv_cache import allocate, page_bytes, state_bytes
from .kv_probe import SUFFERS, kv_divergence
from .memory import Plan, plan_memory
from .model import Model, build
from .prepared_step import program_bytes
from .request import GenerationDefaults
from .runner import Runner
from .scheduler import Limits
from .settings import Pattern, Settings

if TYPE_CHECKING:
    from .text.tokenizer import Tokenizer

ALONE = 2  # times as many prompt tokens are read in a step that nobody waits for
SELF_TESTS = 1000  # steps of writing in place on a GPU, before it is trusted
PROBED = (4,)  # 8 bits moved no model that was measured by more than a thousandth
QUANTIZED = {4: Format.INT4, 8: Format.INT8}


# Takes what is known of a model once its memory is planned: the plan, its type, its defaults, how
# many ids it has; returns the tokenizer for its answers' texts.
Planned = Callable[[Plan, str, GenerationDefaults, int], "Tokenizer"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to serve; `plan` is its memory's."""

    engine: Engine
    plan: Plan
    tokenizer: "Tokenizer"
    model_type: str
    defaults: GenerationDefaults
    vocabulary: int  # the model's ids; its tokenizer may know more, or fewer
    width: int  # numbers of a hidden state


def load(directory: Path, settings: Settings, memory: int) -> LoadedModel:
    """Load a model as `load_described` does, from a directory of which nothing was read."""
    return load_described(describe(directory), settings, memory)


def load_described(
    description: Description,
    settings: Settings,
    memory: int,
    progress: Callable[[str], None] = lambda _: None,
    program: Callable[[], int] = lambda: 0,
    planned: Planned | None = None,
    wake: Callable[[], None] = lambda: None,
) -> LoadedModel:
    """Load a model that takes `memory` bytes at most; `progress` hears of each stage that gets on.

    `program` is asked, once the tokenizer is read, for the bytes of all else in this process.
    Where the settings are for one answer no tokenizer is read: `planned` gives one. `wake` is
    called, by another thread, when a step is due without a request. Raises ValueError, in one
    sentence for the user, if the checkpoint cannot be served.
    """
    directory = description.modules.backbone
    checkpoint = open_checkpoint(directory, description.config)
    config = configure(checkpoint.config)
    checkpoint = rename_tensors(checkpoint, config)
    if alone := settings.one_answer:
        tokenizer, eos = None, alone.eos
    else:
        tokenizer = _read_tokenizer(directory, checkpoint.config, progress)
        eos = tokenizer.eos
    generation = read_generation_config(directory, checkpoint.config, eos, config.vocab_size)
    if generation.ignored:
        print(f"warning: {_not_followed(directory, generation.ignored)}", file=sys.stderr)
    if wide := widening(checkpoint):
        print(wide, file=sys.stderr)
    progress("preparing kernels")
    format = _format(stored_dtype(checkpoint), settings)
    if settings.threads:
        use_threads(settings.threads)
    plan = _plan(checkpoint, config, settings, memory, format, program())
    about = config.model_type, generation.defaults, config.vocab_size
    if tokenizer is None:
        assert planned is not None, "a model of one answer needs its tokenizer from elsewhere"
        tokenizer = planned(plan, *about)
    exact, fine = settings.cpu_precision == "exact", settings.cpu_precision == "auto"
    reading = Reading(exact, fine, settings.check_weights, partial(progress, "reading weights"))
    model = build(checkpoint, config, reading)
    progress("preparing the KV cache")
    if settings.kv_bits in PROBED and not settings.one_answer:
        full = _format(stored_dtype(checkpoint), replace(settings, kv_bits=0))
        _warn_of_few_bits(directory, model, tokenizer, format, full)
    pattern = _pattern(model, format, settings)
    caches = allocate(config, plan.sizes, format, pattern)
    on_gpu, ahead = isinstance(device(), Gpu), _runs_ahead(settings)
    faster = {"traced": on_gpu, "prepared": _is_prepared()}
    runner = Runner(model.decoder, caches, pattern == "tail", ahead=ahead, **faster)
    sizes = settings.max_batch, settings.queue, settings.chunk, PAGE, _alone(settings)
    limits = Limits(plan.context, *sizes)
    about_answers = tokenizer.answer_text, config.ropes, generation.rules
    grammars = Grammars(Compiler(tokenizer, config.vocab_size), wake)
    engine = Engine(runner, limits, plan.sizes, generation.eos_ids, *about_answers, ahead, grammars)
    return LoadedModel(engine, plan, tokenizer, *about, config.hidden_size)


def _read_tokenizer(
    directory: Path, config: Mapping[str, Any], progress: Callable[[str], None]
) -> "Tokenizer":
    from .text.loading import load_tokenizer  # here: its library takes memory too

    progress("reading the tokenizer")
    return load_tokenizer(directory, config=config)


def _not_followed(directory: Path, fields: Sequence[str]) -> str:
    names = ", ".join(fields)
    return f"{directory}: what its files say of {names} is not followed"


def _warn_of_few_bits(
    directory: Path, model: Model, tokenizer: "Tokenizer", format: Format, wide: Format
) -> None:
    moved = kv_divergence(model.decoder, tokenizer, format, wide)
    if moved > SUFFERS:
        print(
            f"warning: {directory} answers otherwise with so few bits of KV cache (a KL divergence "
            f"of up to {moved:.2f}, from a short sample); --kv-bits 8 or auto takes memory instead",
            file=sys.stderr,
        )


def _pattern(model: Model, format: Format, settings: Settings) -> Pattern:
    """Choose how to append: functionally, unless all layers have Metal kernels for another way."""
    layers, pattern = model.decoder.paged_heads, settings.metal_kv
    how = (format, model.decoder.dtype, Append(pattern))
    forms = {(layer[0].form, layer[1]): layer for layer in layers if layer}
    if None in layers or not all(is_fused(heads, latent, *how) for heads, latent in forms.values()):
        return "functional"
    if pattern == "in-place" and isinstance(device(), Gpu) and not self_test(SELF_TESTS):
        message = "warning: this GPU does not keep to writing in place, so --metal-kv is tail"
        print(message, file=sys.stderr)
        return "tail"
    return pattern


def _runs_ahead(settings: Settings) -> bool:
    """Return whether steps are submitted before the one before is read; C is done at once."""
    automatic = device() is not None or not compiled()
    return {"auto": automatic, "on": True, "off": False}[settings.async_scheduling]


def _is_prepared() -> bool:
    """Return whether C runs decoding steps by itself."""
    return device() is None and compiled()


def _format(stored: mx.Dtype, settings: Settings) -> Format:
    """Choose the KV cache's format; on a CPU 16 bits are binary16, which is finer than bfloat16."""
    if settings.kv_bits in QUANTIZED:
        return QUANTIZED[settings.kv_bits]
    computed = activation_dtype(stored)
    if computed != mx.float32:
        return FORMATS[computed]
    exact = settings.cpu_precision == "exact"
    wide = exact or (stored == mx.float32 and settings.kv_bits != 16)
    return Format.FLOAT32 if wide or not compiled() else Format.FLOAT16


def _plan(
    checkpoint: Checkpoint,
    config: ModelConfig,
    settings: Settings,
    memory: int,
    format: Format,
    program: int,
) -> Plan:
    pages = [(window, page_bytes(config, window, format)) for window in config.windows]
    alone = settings.one_answer
    return plan_memory(
        budget=memory,
        weights=weight_bytes(checkpoint, config),
        working=_working(config, settings),
        page=sum(page for window, page in pages if window is None),
        page_tokens=PAGE,
        context=min(config.context, alone.tokens if alone else config.context),
        pool=settings.kv_cache,
        windows=[(window, page) for window, page in pages if window is not None],
        state=state_bytes(config),
        batch=settings.max_batch,
        chunk=_longest(settings),
        one_answer=alone is not None,
        program=program,
    )


def _alone(settings: Settings) -> int:
    """Return the prompt tokens of a step where nothing decodes: more on a GPU.

    There a step of few tokens reads nearly all of a mixture's experts, and computes little.
    """
    return ALONE * settings.chunk if isinstance(device(), Gpu) else 0


def _longest(settings: Settings) -> int:
    """Return the most prompt tokens of a step."""
    return max(settings.chunk, _alone(settings))


def _working(config: ModelConfig, settings: Settings) -> int:
    """Estimate bytes, in float32: a few activations of a step's rows, its logits three times.

    Where a step runs ahead there are two.
    """
    rows = _longest(settings) + settings.max_batch
    streams = config.altup.streams if config.altup else 1
    widest = max(block.row_width for block in config.blocks)
    widths = 6 * streams * config.hidden_size + 3 * widest
    step = 4 * (rows * widths + 3 * settings.max_batch * config.vocab_size)
    programs = program_bytes(config, settings.max_batch) if _is_prepared() else 0
    return step * (2 if _runs_ahead(settings) else 1) + programs
