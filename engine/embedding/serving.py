"""An embedding or reranking model made ready to serve: byte plan, weights, tokenizer, engine."""

import sys
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from ...architectures.config import ModelConfig
from ...architectures.encoder_config import EncoderConfig
from ...kernels.attention.encoder_attention import ROWS
from ...kernels.attention.pages import PAGE, Format
from ...kernels.cpu.library import use_threads
from ...kernels.metal.device import Gpu, device
from ..admission import Admission
from ..checkpoint.weights import Reading, weight_bytes, widening
from ..kv_cache import page_bytes
from ..memory import DoesNotFit, Plan, beside, size
from ..request import GenerationDefaults
from ..settings import Settings
from .engine import EmbeddingEngine
from .model import BATCH, ModelFiles, load_embedder, load_reranker, read_files
from .sentence_transformers import Description

MIN_CONTEXT = 128  # tokens of an input, for which there must be memory


@dataclass(frozen=True, slots=True)
class LoadedEmbeddingModel:
    """An embedding or reranking model that is ready to serve; `plan` is its memory's."""

    engine: EmbeddingEngine
    plan: Plan
    model_type: str
    defaults: GenerationDefaults
    vocabulary: int
    width: int


def load_embedding_model(
    description: Description,
    settings: Settings,
    memory: int,
    wake: Callable[[], None],
    progress: Callable[[str], None] = lambda _: None,
    program: Callable[[], int] = lambda: 0,
) -> LoadedEmbeddingModel:
    """Load a model that takes `memory` bytes at most; `progress` hears of each stage that gets on.

    `program` is asked, once the tokenizer is read, for the bytes of all else in this process.
    Raises ValueError, in one sentence for the user, if the checkpoint cannot be served.
    """
    progress("reading the tokenizer")
    files = read_files(description, settings.parse_special)
    if wide := widening(files.checkpoint):
        print(wide, file=sys.stderr)
    # A CPU's caches are small.
    batch_tokens = BATCH if isinstance(device(), Gpu) else settings.chunk
    if settings.threads:
        use_threads(settings.threads)
    exact, reads = settings.cpu_precision == "exact", partial(progress, "reading weights")
    reading = Reading(exact, check=settings.check_weights, progress=reads)
    plan = plan_embedding(memory, files, batch_tokens, program())
    files = replace(files, reader=files.reader.shortened(plan.context))
    load_model = load_embedder if description.purpose == "embed" else load_reranker
    model = load_model(files, reading)
    admission = Admission(settings.max_batch, settings.queue)
    engine = EmbeddingEngine(model, batch_tokens, admission, wake)
    about = files.config.model_type, GenerationDefaults(), files.reader.vocabulary
    return LoadedEmbeddingModel(engine, plan, *about, files.config.hidden_size)


def plan_embedding(budget: int, files: ModelFiles, batch_tokens: int, program: int) -> Plan:
    """Plan the memory for batches of so many tokens; raises DoesNotFit.

    The plan's context, in tokens, is the reader's longest input or what there is memory for.
    """

    def working(longest: int) -> int:
        return _working(files.config, longest, batch_tokens)

    weights, longest = weight_bytes(files.checkpoint, files.config), files.reader.longest
    left = budget - weights - program
    fits = bisect_right(range(longest + 1), left, key=working) - 1
    needed = min(longest, MIN_CONTEXT)
    if fits < needed:
        raise DoesNotFit(
            f"the model needs {size(weights)} for weights and about "
            f"{size(working(needed))} to work in{beside(program)}, but it was given "
            f"{size(budget)}; choose a smaller model"
        )
    return Plan(budget, weights, working(fits), 0, 0, fits, program=program)


def _working(config: EncoderConfig | ModelConfig, longest: int, batch_tokens: int) -> int:
    """Estimate bytes, in float32: a few activations of the rows; scores, or a decoder's pages."""
    rows = max(longest, batch_tokens)
    if isinstance(config, EncoderConfig):
        widths = 6 * config.hidden_size + 3 * config.width
        return 4 * (rows * widths + 2 * ROWS * longest * config.heads)
    widths = 6 * config.hidden_size + 3 * max(block.row_width for block in config.blocks)
    if config.bidirectional:
        return 4 * rows * widths
    page = sum(page_bytes(config, each, Format.FLOAT32) for each in config.windows)
    pages = -(-max(rows, BATCH) // PAGE)  # Causal has as many from the start
    return 4 * min(rows, BATCH) * widths + 2 * page * pages
