"""Kernels launched for a decoded token, a layer: ours against mlx_lm's, from the graphs of both.

Those of a layer are what a model of two layers launches more than a model of one.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import mlx.core as mx
import numpy as np
from typer import Option

from bessemer.architectures.decoder import Decoder
from bessemer.architectures.step import Cache, StepRows
from bessemer.bench.command import FAILED, command
from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.kernels import graph
from bessemer.bench.kernels.latent_layer import step as latent_step
from bessemer.bench.kernels.workload import Dimensions
from bessemer.bench.models.shapes import ModelShape, shape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.engine import kv_cache
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.model import load
from bessemer.kernels.attention.pages import FORMATS, PAGE, Layout
from bessemer.kernels.metal.device import Gpu, using

SHAPES = ("llama-3.2-1b", "qwen3-1.7b", "qwen3-30b-a3b", "deepseek-v2-lite")
MAX_LAUNCHES = {"dense": 6, "experts": 9}  # a layer, of ours
CONTEXT = 512  # tokens before the one that is decoded: enough for attention to be split and merged


def ours(model_shape: ModelShape) -> "Counter[str]":
    """Count the launches of one token after CONTEXT others, appended in the default way."""
    path = checkpoint(model_shape, Storage(4, 64, "float16"), 0)
    with using(Gpu(trusted=True)):
        model = load(path)
        config = model.config
        sizes = CacheSizes(config.windows, (CONTEXT // PAGE + 1,) * len(config.windows))
        caches = kv_cache.allocate(config, sizes, FORMATS[model.decoder.dtype], "tail")
        step = partial(_step, model.decoder, caches, decode_layout(CONTEXT))
        with graph.fast_as_one():
            return graph.launches(step, mx.zeros((1,), mx.int32))


def _step(
    decoder: Decoder,
    caches: Sequence[Cache],
    layout: Layout,
    tokens: mx.array,
) -> mx.array:
    step = StepRows((layout,) * len(decoder.config.windows), layout.positions)
    logits, _ = decoder(tokens, step, caches, mx.zeros((1,), mx.int32))
    return logits


def decode_layout(context: int) -> Layout:
    """Lay out a sequence whose token number `context` is decoded, its tail on the last page."""
    pages = np.arange(1, context // PAGE + 2, dtype=np.int32)
    slot_mapping = int(pages[context // PAGE]) * PAGE + context % PAGE
    position, place, owner = (mx.array([value], mx.int32) for value in (context, slot_mapping, 0))
    layout = Layout(position, place, owner, mx.array(pages[None]), 1, ())
    return replace(layout, tails=mx.array([context // PAGE * PAGE], mx.int32))


def theirs(model_shape: ModelShape, python: str) -> "Counter[str]":
    """Count mlx_lm's launches by an interpreter that has it. Raises Unavailable."""
    path = checkpoint(model_shape, Storage(4, 64, "float16"), 0)
    command = [python, str(Path(graph.__file__)), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise Unavailable(f"mlx_lm could not count {model_shape.name}: {lines[-1]}")
    return Counter(json.loads(done.stdout))


def ours_a_layer(model_shape: ModelShape) -> "Counter[str]":
    """Count a layer of ours; one of latents is put together from its operations."""
    config = model_shape.config
    if "kv_lora_rank" not in config:
        return a_layer(ours, model_shape)
    dimensions = Dimensions.of(config)
    with using(Gpu(trusted=True)), graph.fast_as_one():
        x = mx.zeros((1, dimensions.hidden), mx.float16)
        return graph.launches(latent_step(dimensions, decode_layout(CONTEXT)), x)


def a_layer(
    count: Callable[[ModelShape], "Counter[str]"], model_shape: ModelShape
) -> "Counter[str]":
    """Count the last kind of layer, which in mixtures is the one of experts."""
    first = int(model_shape.config.get("first_k_dense_replace", 0)) + 1
    return count(model_shape.scaled(first + 1)) - count(model_shape.scaled(first))


# fmt: off
@command(__doc__)
def main(
    shapes: Annotated[list[str], Option(
        "--shape", metavar="NAME", help="Repeatable.",
    )] = [*SHAPES],  # noqa: B006 - nobody changes it
    mlx_lm: Annotated[str, Option(metavar="PYTHON", help="An interpreter that has mlx_lm.")] = "",
) -> int:
    # fmt: on
    """Exit with 1 where ours are too many."""
    over = 0
    for name in shapes:
        model_shape = shape(name)
        launches = ours_a_layer(model_shape)
        limit = MAX_LAUNCHES["experts" if _has_experts(model_shape) else "dense"]
        over += launches.total() > limit
        print(f"{name}: ours {launches.total()} a layer (at most {limit}): {_listed(launches)}")
        if mlx_lm:
            other = a_layer(partial(theirs, python=mlx_lm), model_shape)
            print(f"{name}: mlx_lm {other.total()} a layer: {_listed(other)}", flush=True)
    return FAILED if over else 0


def _has_experts(model_shape: ModelShape) -> bool:
    config = model_shape.config
    return bool(config.get("num_experts") or config.get("n_routed_experts"))


def _listed(counts: "Counter[str]") -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
