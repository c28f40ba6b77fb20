"""An embedding or reranking model made ready to serve: byte plan, weights, tokenizer, engine."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..architectures import encoder_config
from ..architectures.config import ModelConfig
from ..architectures.encoder_config import FAMILIES, EncoderConfig
from ..kernels.cpu.library import use_threads
from ..kernels.encoder_attention import ROWS
from ..kernels.metal.device import Gpu, device
from ..kernels.pages import PAGE, Format
from . import kv_cache
from .checkpoint import Checkpoint, open_checkpoint
from .decoder_embed import configured
from .embed import BATCH, Embedder, Reranker, load_embedder, load_reranker
from .memory import DoesNotFit, Plan, size
from .passage_engine import PassageEngine
from .passages import longest
from .request import Sampling
from .sentence import read_modules
from .serving import weight_bytes, widest
from .settings import Settings
from .weights import Reading

LOADERS: dict[str, Callable[..., Embedder | Reranker]] = {
    "embed": load_embedder,
    "rerank": load_reranker,
}
LEAST = 128  # tokens of a passage, for which there must be memory


@dataclass(frozen=True, slots=True)
class PassageServing:
    engine: PassageEngine
    plan: Plan
    model_type: str
    defaults: Sampling


def load(
    directory: Path,
    purpose: Literal["embed", "rerank"],
    settings: Settings,
    memory: int,
    wake: Callable[[], None],
) -> PassageServing:
    """A model that takes `memory` bytes at most.

    Raises ValueError, in one sentence for the user, if the checkpoint cannot be served.
    """
    backbone = read_modules(directory).backbone
    checkpoint = open_checkpoint(backbone)
    config = _configure(checkpoint)
    most = BATCH if isinstance(device(), Gpu) else settings.chunk  # a CPU's caches are small
    if settings.threads:
        use_threads(settings.threads)
    reading = Reading(settings.cpu_precision == "exact", settings.check_weights)
    settled = plan(memory, checkpoint, config, longest(backbone, config.context), most)
    model = shortened(LOADERS[purpose](directory, reading=reading), settled.context)
    engine = PassageEngine(model, most, settings.max_batch + settings.queue, wake)
    return PassageServing(engine, settled, config.model_type, Sampling())


def _configure(checkpoint: Checkpoint) -> EncoderConfig | ModelConfig:
    if checkpoint.config.get("model_type") in FAMILIES:
        return encoder_config.configure(checkpoint.config)
    return configured(checkpoint)


def plan(
    budget: int,
    checkpoint: Checkpoint,
    config: EncoderConfig | ModelConfig,
    longest: int,
    most: int,
) -> Plan:
    """For batches of `most` tokens; its context, `longest` or what there is memory for, in tokens.

    Raises DoesNotFit.
    """
    weights = weight_bytes(checkpoint, config)
    left = budget - weights
    fits = bisect_right(range(longest + 1), left, key=lambda n: _working(config, n, most)) - 1
    least = min(longest, LEAST)
    if fits < least:
        raise DoesNotFit(
            f"the model needs {size(weights)} for weights and about "
            f"{size(_working(config, least, most))} to work in, but it was given {size(budget)}; "
            "choose a smaller model"
        )
    return Plan(budget, weights, _working(config, fits, most), 0, 0, fits)


def _working(config: EncoderConfig | ModelConfig, longest: int, most: int) -> int:
    """An estimate, in float32: a few activations of the rows; scores, or a decoder's pages."""
    rows = max(longest, most)
    if isinstance(config, EncoderConfig):
        widths = 6 * config.hidden_size + 3 * config.width
        return 4 * (rows * widths + 2 * ROWS * longest * config.heads)
    widths = 6 * config.hidden_size + 3 * max(map(widest, config.blocks))
    if config.bidirectional:
        return 4 * rows * widths
    page = sum(kv_cache.page_bytes(config, each, Format.FLOAT32) for each in config.windows)
    pages = -(-max(rows, BATCH) // PAGE)  # engine.causal has as many from the start
    return 4 * min(rows, BATCH) * widths + 2 * page * pages


def shortened(model: Embedder | Reranker, longest: int) -> Embedder | Reranker:
    """The same model, for passages of no more than `longest` tokens."""
    if longest >= model.reader.longest:
        return model
    model.reader.cut.enable_truncation(longest)
    return replace(model, reader=replace(model.reader, longest=longest))
