"""Prefill of a mixture of experts, with pairs of token and expert sorted by expert, and not.

python -m bessemer.bench.kernels.moe_prefill [--shape qwen3-30b-a3b] [--layers 4]
        [--lengths 59,481,1831,4532] [--whole]
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np
from rich.console import Console
from rich.table import Table

from bessemer.architectures.decoder import Block, Decoder
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.layers.moe import MoE
from bessemer.architectures.step import StepRows
from bessemer.bench.compare.machine import cpu_tier
from bessemer.bench.compare.options import numbers
from bessemer.bench.compare.stats import paired, rotated, summary
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.engine import kv_cache
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.model import Model, load
from bessemer.kernels.attention.pages import PAGE, Format, Layout, Prefill
from bessemer.kernels.moe.moe import moe

LENGTHS = (59, 481, 1831, 4532)

Work = Callable[[], object]
Make = Callable[[int], tuple[Work, Work]]


def moe_rows(
    make: Make,
    lengths: Sequence[int] = LENGTHS,
    rounds: int = 10,
    tell: Callable[[str], None] = print,
) -> Table:
    """The table of tokens a second, sorted against unsorted, in interleaved rounds.

    `make(tokens)` prepares one prompt's activations and routing and returns two functions that do
    the same expert layer on them, first with its rows sorted by expert, then without; each must
    have finished all its work when it returns (mx.eval).
    """
    table = Table("tokens", "sorted, tok/s", "unsorted, tok/s", "sorted / unsorted (95 %)")
    for tokens in lengths:
        tell(f"{tokens} tokens")
        found = moe_speeds(make, tokens, rounds)
        ratio = summary(paired(*found))
        cells = (
            f"{each.median:.1f} ({each.least:.1f} to {each.most:.1f})"
            for each in map(summary, found)
        )
        table.add_row(
            str(tokens), *cells, f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        )
    return table


def moe_speeds(make: Make, tokens: int, rounds: int) -> tuple[list[float], list[float]]:
    """Tokens a second of both, by round; the first round warms up and is not counted."""
    ways = dict(zip(("sorted", "unsorted"), make(tokens), strict=True))
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name in rotated(list(ways), turn):
            began = time.perf_counter()
            ways[name]()
            seconds = time.perf_counter() - began
            if turn:
                speeds[name].append(tokens / seconds)
    return speeds["sorted"], speeds["unsorted"]


def unsorted(decoder: Decoder) -> Decoder:
    """The same weights, with every pair's experts read on their own."""
    blocks = []
    for block in decoder.blocks:
        layer = block.feed_forward
        if isinstance(block, Block) and isinstance(layer, MoE):
            layer = replace(layer, experts=replace(layer.experts, in_order=False))
            block = replace(block, feed_forward=layer)
        blocks.append(block)
    return replace(decoder, blocks=tuple(blocks))


def prefill(model: Model, decoder: Decoder, tokens: int) -> Work:
    """A whole prompt in one step, up to the logits of its last token."""
    windows, pages = model.config.windows, -(-tokens // PAGE)
    sizes = CacheSizes(windows, (pages,) * len(windows))
    caches = kv_cache.allocate(model.config, sizes, Format.FLOAT16)
    positions = np.arange(tokens, dtype=np.int32)
    table = np.arange(1, pages + 1, dtype=np.int32)[None]
    layout = Layout(
        positions=mx.array(positions),
        slot_mapping=mx.array(positions + PAGE),
        owners=mx.array(np.zeros_like(positions)),
        tables=mx.array(table),
        decodes=0,
        prefills=(Prefill(0, tokens, tokens),),
    )
    words = mx.array(np.random.default_rng(1).integers(1, 500, tokens).astype(np.int32))
    last = mx.array(np.array([tokens - 1], np.int32))
    step = StepRows((layout,) * len(windows), layout.positions)
    return lambda: mx.eval(decoder(words, step, caches, last)[0])


def experts_alone(model: Model, decoder: Decoder, tokens: int) -> Work:
    """All layers' experts, each token's drawn evenly: what a trained router aims at."""
    random = np.random.default_rng(tokens)
    layers = (block.feed_forward for block in model.config.blocks)
    mixture = next(layer for layer in layers if isinstance(layer, MoeConfig))
    order = random.random((tokens, mixture.count)).argsort(axis=1)
    chosen = mx.array(order[:, : mixture.per_token].astype(np.int32))
    weights = mx.array(np.full(chosen.shape, 1 / mixture.per_token, np.float32))
    shape = (tokens, model.config.hidden_size)
    x = mx.array(random.standard_normal(shape, dtype=np.float32))
    parts = [block.feed_forward for block in decoder.blocks]
    experts = [part.experts for part in parts if isinstance(part, MoE)]
    return lambda: mx.eval([moe(x, each, (chosen, weights)) for each in experts])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="qwen3-30b-a3b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lengths", type=numbers, default=list(LENGTHS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--whole", action="store_true", help="with attention, norms and head")
    options = parser.parse_args()
    chosen, tier = shape(options.shape).scaled(options.layers), cpu_tier()
    model = load(checkpoint(chosen, Storage(), seed=1))
    plain = unsorted(model.decoder)
    work = prefill if options.whole else experts_alone
    table = moe_rows(
        lambda tokens: (work(model, model.decoder, tokens), work(model, plain, tokens)),
        options.lengths,
        options.rounds,
    )
    what = "prefill of the whole model" if options.whole else "the experts of all layers"
    table.title = f"{options.shape}, {chosen.mark or 'all layers'}: {what}, random weights"
    table.title += f", CPU tier: {tier or 'none'}"
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
