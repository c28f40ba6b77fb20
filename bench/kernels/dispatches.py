"""Kernels launched for a decoded token, a layer: ours against mlx_lm's, from the graphs of both.

python -m bessemer.bench.kernels.dispatches [--shape NAME ...] [--mlx-lm PYTHON]

A layer's are those that a model of two layers launches more than a model of one.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from bessemer.architectures.decoder import Decoder
from bessemer.architectures.step import Cache, StepRows
from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.kernels import graph
from bessemer.bench.kernels.latent_layer import step as latent_step
from bessemer.bench.kernels.workload import Dimensions
from bessemer.bench.models.shapes import Shape, shape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.engine import kv_cache
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.model import load
from bessemer.kernels.attention.pages import FORMATS, PAGE, Layout
from bessemer.kernels.metal.device import Gpu, using

SHAPES = ("llama-3.2-1b", "qwen3-1.7b", "qwen3-30b-a3b", "deepseek-v2-lite")
MOST = {"dense": 6, "experts": 9}  # a layer, of ours
CONTEXT = 512  # tokens before the one that is decoded: enough for attention to be split and merged


def ours(found: Shape) -> "Counter[str]":
    """Of one token after CONTEXT others, in the default pattern of appending."""
    path = checkpoint(found, Storage(4, 64, "float16"), 0)
    with using(Gpu(trusted=True)):
        model = load(path)
        config = model.config
        sizes = CacheSizes(config.windows, (CONTEXT // PAGE + 1,) * len(config.windows))
        caches = kv_cache.allocate(config, sizes, FORMATS[model.decoder.dtype], "tail")
        step = partial(_step, model.decoder, caches, layout(CONTEXT))
        with graph.fast_as_one():
            return graph.launches(step, mx.zeros((1,), mx.int32))


def _step(
    decoder: Decoder,
    caches: Sequence[Cache],
    placed: Layout,
    tokens: mx.array,
) -> mx.array:
    step = StepRows((placed,) * len(decoder.config.windows), placed.positions)
    logits, _ = decoder(tokens, step, caches, mx.zeros((1,), mx.int32))
    return logits


def layout(context: int) -> Layout:
    """One sequence whose token number `context` is decoded, its tail beginning on the last page."""
    pages = np.arange(1, context // PAGE + 2, dtype=np.int32)
    slot = int(pages[context // PAGE]) * PAGE + context % PAGE
    position, place, owner = (mx.array([value], mx.int32) for value in (context, slot, 0))
    placed = Layout(position, place, owner, mx.array(pages[None]), 1, ())
    return replace(placed, tails=mx.array([context // PAGE * PAGE], mx.int32))


def theirs(found: Shape, python: str) -> "Counter[str]":
    """mlx_lm's, by an interpreter that has it."""
    path = checkpoint(found, Storage(4, 64, "float16"), 0)
    command = [python, str(Path(graph.__file__)), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise Unavailable(f"mlx_lm could not count {found.name}: {lines[-1]}")
    return Counter(json.loads(done.stdout))


def ours_a_layer(found: Shape) -> "Counter[str]":
    """Of a model that our engine does not read yet, a layer put together from its operations."""
    if "kv_lora_rank" not in found.config:
        return a_layer(ours, found)
    of = Dimensions.of(found.config)
    with using(Gpu(trusted=True)), graph.fast_as_one():
        x = mx.zeros((1, of.hidden), mx.float16)
        return graph.launches(latent_step(of, layout(CONTEXT)), x)


def a_layer(count: Callable[[Shape], "Counter[str]"], found: Shape) -> "Counter[str]":
    """The last kind of layer, which in mixtures is the one of experts."""
    first = int(found.config.get("first_k_dense_replace", 0)) + 1
    return count(found.scaled(first + 1)) - count(found.scaled(first))


def main(arguments: Sequence[str] | None = None) -> int:
    """1 where ours are too many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", action="append", help=f"default: {', '.join(SHAPES)}")
    parser.add_argument("--mlx-lm", metavar="PYTHON", help="an interpreter that has mlx_lm")
    options = parser.parse_args(arguments)
    over = 0
    for name in options.shape or SHAPES:
        found = shape(name)
        mine = ours_a_layer(found)
        most = MOST["experts" if _has_experts(found) else "dense"]
        over += mine.total() > most
        print(f"{name}: ours {mine.total()} a layer (at most {most}): {_named(mine)}")
        if options.mlx_lm:
            other = a_layer(partial(theirs, python=options.mlx_lm), found)
            print(f"{name}: mlx_lm {other.total()} a layer: {_named(other)}", flush=True)
    return int(over > 0)


def _has_experts(found: Shape) -> bool:
    return bool(found.config.get("num_experts") or found.config.get("n_routed_experts"))


def _named(counts: "Counter[str]") -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
