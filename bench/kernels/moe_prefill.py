"""Prefill of a mixture of experts, with pairs of token and expert sorted by expert, and not."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated

import mlx.core as mx
import numpy as np
from rich.console import Console
from rich.table import Table
from typer import Option

from bessemer.architectures.decoder import Block, Decoder
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.layers.moe import MoE
from bessemer.architectures.step import StepRows
from bessemer.bench.command import NUMBERS, command
from bessemer.bench.compare.machine import cpu_tier
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
    """Return the table of tokens a second, sorted against unsorted, in interleaved rounds.

    `make(tokens)` prepares one prompt's activations and routing and returns two functions that do
    the same expert layer on them, first with its rows sorted by expert, then without; each must
    have finished all its work when it returns (mx.eval).
    """
    table = Table("tokens", "sorted, tok/s", "unsorted, tok/s", "sorted / unsorted (95 %)")
    for tokens in lengths:
        tell(f"{tokens} tokens")
        speeds = moe_speeds(make, tokens, rounds)
        ratio = summary(paired(*speeds))
        cells = (
            f"{each.median:.1f} ({each.minimum:.1f} to {each.maximum:.1f})"
            for each in map(summary, speeds)
        )
        table.add_row(
            str(tokens), *cells, f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        )
    return table


def moe_speeds(make: Make, tokens: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return tokens a second of both, by round; a first round warms up and is not counted."""
    works = dict(zip(("sorted", "unsorted"), make(tokens), strict=True))
    speeds: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name in rotated(list(works), round_):
            began = time.perf_counter()
            works[name]()
            seconds = time.perf_counter() - began
            if round_:
                speeds[name].append(tokens / seconds)
    return speeds["sorted"], speeds["unsorted"]


def unsorted(decoder: Decoder) -> Decoder:
    """Return the same weights, with every pair's experts read apart from the others."""
    blocks = []
    for block in decoder.blocks:
        layer = block.feed_forward
        if isinstance(block, Block) and isinstance(layer, MoE):
            layer = replace(layer, experts=replace(layer.experts, in_order=False))
            block = replace(block, feed_forward=layer)
        blocks.append(block)
    return replace(decoder, blocks=tuple(blocks))


def prefill(model: Model, decoder: Decoder, tokens: int) -> Work:
    """Prepare a whole prompt in one step, up to the logits of its last token."""
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
    ids = mx.array(np.random.default_rng(1).integers(1, 500, tokens).astype(np.int32))
    last = mx.array(np.array([tokens - 1], np.int32))
    step = StepRows((layout,) * len(windows), layout.positions)
    return lambda: mx.eval(decoder(ids, step, caches, last)[0])


def experts_alone(model: Model, decoder: Decoder, tokens: int) -> Work:
    """Prepare all layers' experts; each token's are chosen evenly, as a trained router aims at."""
    random = np.random.default_rng(tokens)
    layers = (block.feed_forward for block in model.config.blocks)
    mixture = next(layer for layer in layers if isinstance(layer, MoeConfig))
    order = random.random((tokens, mixture.count)).argsort(axis=1)
    chosen = mx.array(order[:, : mixture.per_token].astype(np.int32))
    weights = mx.array(np.full(chosen.shape, 1 / mixture.per_token, np.float32))
    shape = (tokens, model.config.hidden_size)
    x = mx.array(random.standard_normal(shape, dtype=np.float32))
    mlps = [block.feed_forward for block in decoder.blocks]
    experts = [mlp.experts for mlp in mlps if isinstance(mlp, MoE)]
    return lambda: mx.eval([moe(x, each, (chosen, weights)) for each in experts])


# fmt: off
@command(__doc__)
def main(
    name: Annotated[str, Option("--shape", help="Of random 4-bit weights.")] = "qwen3-30b-a3b",
    layers: Annotated[int, Option(help="Of the shape.")] = 4,
    lengths: Annotated[tuple[int, ...], Option(**NUMBERS, help="Of prompts.")] = LENGTHS,
    rounds: int = 10,
    full_model: Annotated[bool, Option(
        "--whole", help="With attention, norms and head.",
    )] = False,
) -> int:
    # fmt: on
    scaled, tier = shape(name).scaled(layers), cpu_tier()
    model = load(checkpoint(scaled, Storage(), seed=1))
    plain = unsorted(model.decoder)
    work = prefill if full_model else experts_alone
    table = moe_rows(
        lambda tokens: (work(model, model.decoder, tokens), work(model, plain, tokens)),
        lengths,
        rounds,
    )
    what = "prefill of the whole model" if full_model else "the experts of all layers"
    table.title = f"{name}, {scaled.mark or 'all layers'}: {what}, random weights"
    table.title += f", CPU tier: {tier or 'none'}"
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
