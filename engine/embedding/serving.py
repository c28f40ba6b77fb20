"""An embedding or reranking model made ready to serve: byte plan, weights, tokenizer, engine."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...architectures.config import ModelConfig
from ...architectures.encoder_config import EncoderConfig
from ...kernels.attention.encoder_attention import ROWS
from ...kernels.attention.pages import PAGE, Format
from ...kernels.cpu.library import use_threads
from ...kernels.metal.device import Gpu, device
from .. import kv_cache
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.weights import Reading, weight_bytes
from ..memory import DoesNotFit, Plan, size
from ..request import Sampling
from ..settings import Settings
from .engine import PassageEngine
from .model import BATCH, load_embedder, load_reranker, read_files
from .sentence_transformers import Description

LEAST = 128  # tokens of a passage, for which there must be memory


@dataclass(frozen=True, slots=True)
class PassageServing:
    engine: PassageEngine
    plan: Plan
    model_type: str
    defaults: Sampling


def load(
    description: Description, settings: Settings, memory: int, wake: Callable[[], None]
) -> PassageServing:
    """A model that takes `memory` bytes at most.

    Raises ValueError, in one sentence for the user, if the checkpoint cannot be served.
    """
    files = read_files(description)
    most = BATCH if isinstance(device(), Gpu) else settings.chunk  # a CPU's caches are small
    if settings.threads:
        use_threads(settings.threads)
    reading = Reading(settings.cpu_precision == "exact", settings.check_weights)
    settled = plan(memory, files.checkpoint, files.config, files.reader.longest, most)
    files = replace(files, reader=files.reader.shortened(settled.context))
    load_model = load_embedder if description.purpose == "embed" else load_reranker
    model = load_model(files, reading)
    engine = PassageEngine(model, most, settings.max_batch + settings.queue, wake)
    return PassageServing(engine, settled, files.config.model_type, Sampling())


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
    widths = 6 * config.hidden_size + 3 * max(block.row_width for block in config.blocks)
    if config.bidirectional:
        return 4 * rows * widths
    page = sum(kv_cache.page_bytes(config, each, Format.FLOAT32) for each in config.windows)
    pages = -(-max(rows, BATCH) // PAGE)  # engine.causal has as many from the start
    return 4 * min(rows, BATCH) * widths + 2 * page * pages
