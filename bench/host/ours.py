"""Our engine's host code against a modelled GPU: the steps of a worker, in process."""

from pathlib import Path

from bessemer.bench.host import weightless
from bessemer.bench.models.shapes import ModelShape, kv_values
from bessemer.engine import serving
from bessemer.engine.engine import Engine
from bessemer.engine.request import Request, Sampling
from bessemer.engine.settings import Settings
from bessemer.kernels.attention.pages import PAGE

FIRST_WORD = 16
MEMORY = 1 << 40
SPARE = 4  # pages a sequence


def engine(path: Path, shape: ModelShape, streams: int, tokens: int, chunk: int = 512) -> Engine:
    """Return an engine of a checkpoint without weights, for so many streams of so many tokens."""
    pages = streams * (-(-tokens // PAGE) + SPARE)
    settings = Settings(
        max_batch=streams,
        kv_cache=pages * PAGE * kv_values(shape.config) * 2,
        queue=1024,
        chunk=chunk,
    )
    loaded = weightless.load(lambda: serving.load(path, settings, MEMORY))
    weightless.hollow_out(loaded.engine)
    return loaded.engine


def submit(engine: Engine, streams: int, prompt: int) -> None:
    for number in range(streams):
        tokens = [FIRST_WORD + (number + place) % 100 for place in range(prompt)]
        request = Request(
            id=number + 1,
            tokens=tokens,
            max_tokens=1 << 20,
            ignore_eos=True,
            sampling=Sampling(temperature=0),
        )
        engine.submit(request)
