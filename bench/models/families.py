"""Every family's layers beside Llama's: time for each multiplication and addition they mean.

Random 4-bit weights, float32 activations, one prompt; embeddings and head are left out. In each
round all families take their turn, and each is divided by the Llama of its round.
"""

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import mlx.core as mx
import numpy as np
from rich.table import Table
from typer import Argument, Option

from bessemer.architectures.config import (
    AttentionConfig,
    BlockConfig,
    DeltaConfig,
    LatentConfig,
    ModelConfig,
    SsmConfig,
)
from bessemer.architectures.decoder import Decoder
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure
from bessemer.architectures.step import Cache, StepRows
from bessemer.bench.command import command, one_of
from bessemer.bench.compare.machine import cpu_tier
from bessemer.bench.compare.show import console
from bessemer.bench.compare.stats import paired, rotated
from bessemer.bench.models.random_weights import RandomWeights
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.kv_cache import allocate
from bessemer.kernels.attention.pages import PAGE, Format, Layout, Prefill
from bessemer.kernels.recurrent.runs import Runs

FILE = Path(__file__).with_name("families.toml")
FIRST = "llama"  # what the others are compared with
# What `--wide` multiplies: a model of twice the width has twice the heads and twice the experts'.
WIDTHS = (
    *("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"),
    *("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"),
    *("linear_num_key_heads", "linear_num_value_heads", "kv_lora_rank", "q_lora_rank"),
    *("mamba_num_heads", "mamba_n_heads"),
)


@dataclass(frozen=True, slots=True)
class BenchFamily:
    """A family's decoder; `work` is a token's arithmetic in all layers' matrices."""

    name: str
    decoder: Decoder
    work: float


def families(wide: int = 1) -> Mapping[str, dict[str, Any]]:
    """Return the config.json of each, by model_type, `wide` times as wide."""
    tables = tomllib.loads(FILE.read_text())
    base = tables.pop("base")
    every = {name: {**base, **table, "model_type": name} for name, table in tables.items()}
    return {
        name: {key: each * wide if key in WIDTHS else each for key, each in config.items()}
        for name, config in every.items()
    }


def load_family(name: str, wide: int = 1) -> BenchFamily:
    mx.random.seed(0)
    config = configure(families(wide)[name])
    experts = [b.feed_forward for b in config.blocks if isinstance(b.feed_forward, MoeConfig)]
    weights = RandomWeights(config, chosen={each.count: each.per_token for each in experts})
    return BenchFamily(name, Decoder.load(config, weights), weights.work)


def mixing_work(block: BlockConfig, context: float) -> float:
    """Return the arithmetic between tokens, for one token that sees `context` of them."""
    match block.mixer:
        case AttentionConfig() as config:
            seen = min(context, config.window or context)
            return 4.0 * seen * config.heads * config.head_dim
        case LatentConfig() as config:
            return 2.0 * context * config.heads * (2 * config.rank + config.rope_dim)
        case DeltaConfig() as config:
            return (
                8.0 * config.heads * config.key_dim * config.value_dim
                + 2.0 * config.width * config.channels
            )
        case SsmConfig() as config:
            return (
                6.0 * config.heads * config.head_dim * config.state
                + 2.0 * config.width * config.channels
            )
    return 0.0


def caches(config: ModelConfig, tokens: int) -> list[Cache]:
    """Allocate the caches of one sequence of so many tokens."""
    pages = (-(-tokens // PAGE),) * len(config.windows)
    return allocate(config, CacheSizes(config.windows, pages, states=1), Format.FLOAT16)


def step(config: ModelConfig, start: int, count: int) -> StepRows:
    """Lay out the next `count` tokens of the sequence, a run or a single one."""
    positions = mx.array(np.arange(start, start + count, dtype=np.int32))
    table = mx.array(1 + np.arange(-(-(start + count) // PAGE), dtype=np.int32))[None]
    runs = () if count == 1 else (Prefill(0, count, start + count),)
    owners = mx.zeros((count,), mx.int32)
    layout = Layout(positions, positions + PAGE, owners, table, int(count == 1), runs)
    mx.eval(positions, table, owners, layout.slot_mapping)
    return StepRows(
        (layout,) * len(config.windows),
        positions,
        Runs.of([count], [1], [not start]),
        np.full(count, start + count, np.int32),
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """Something to time, and the arithmetic it means."""

    run: Callable[[], object]
    work: float


def prefill(family: BenchFamily, tokens: int) -> Timed:
    config = family.decoder.config
    cache, at = caches(config, tokens), step(config, 0, tokens)
    ids = mx.array(np.random.default_rng(1).integers(0, config.vocab_size, tokens))
    between = sum(mixing_work(block, tokens / 2) for block in config.blocks)
    work = tokens * (family.work + between)
    return Timed(lambda: mx.eval(family.decoder.hidden(ids, at, cache)[0]), work)


def decode(family: BenchFamily, context: int) -> Timed:
    config = family.decoder.config
    cache = caches(config, context + 1)
    ids = mx.array(np.random.default_rng(1).integers(0, config.vocab_size, context))
    mx.eval(family.decoder.hidden(ids, step(config, 0, context), cache)[0])
    at = step(config, context, 1)
    work = family.work + sum(mixing_work(block, context + 1) for block in config.blocks)
    return Timed(lambda: mx.eval(family.decoder.hidden(ids[:1], at, cache)[0]), work)


def measure(runs: Mapping[str, Timed], rounds: int, times: int) -> dict[str, list[float]]:
    """Return nanoseconds for a thousand operations, by round; the first round warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name in rotated(list(runs), round_):
            began = time.perf_counter()
            for _ in range(times):
                runs[name].run()
            seconds = (time.perf_counter() - began) / times
            if round_:
                speeds[name].append(1e12 * seconds / runs[name].work)
    return speeds


def table(
    prompts: Mapping[str, Sequence[float]], tokens: Mapping[str, Sequence[float]], max_ratio: float
) -> Table:
    shown = Table("family", "prefill, GFLOP/s", "x Llama", "decode, GFLOP/s", "x Llama", "")
    for name in prompts:
        cells, worst = [name], 0.0
        for speeds in (prompts, tokens):
            ratio = median(paired(speeds[name], speeds[FIRST]))
            worst = max(worst, ratio)
            cells += [f"{1000 / median(speeds[name]):.1f}", f"{ratio:.2f}"]
        shown.add_row(*cells, "" if worst <= max_ratio else f"over {max_ratio}")
    return shown


# fmt: off
@command(__doc__)
def main(
    chosen: Annotated[list[str] | None, Argument(
        metavar="FAMILY", parser=one_of(*families()), help="All, if none is named.",
    )] = None,
    rounds: int = 10,
    tokens: Annotated[int, Option(help="Of the prompt.")] = 256,
    context: Annotated[int, Option(help="Tokens before the one that is decoded.")] = 128,
    wide: Annotated[int, Option(help="How many times as wide.")] = 1,
    max_ratio: Annotated[float, Option(
        "--most", help="The ratio from which on a family is marked.",
    )] = 1.3,
) -> int:
    # fmt: on
    tier = cpu_tier()
    names = list(dict.fromkeys([FIRST, *(chosen or families())]))
    loaded = {name: load_family(name, wide) for name in names}
    prompts = {name: prefill(each, tokens) for name, each in loaded.items()}
    steps = {name: decode(each, context) for name, each in loaded.items()}
    shown = table(measure(prompts, rounds, 1), measure(steps, rounds, 5), max_ratio)
    shown.title = f"CPU tier: {tier or 'none'}"
    console().print(shown)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
