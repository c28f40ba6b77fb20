"""Every family's layers beside Llama's: time for each multiplication and addition they mean.

python -P -m bessemer.bench.models.families [FAMILY ...] [--rounds 10] [--tokens 256]
        [--context 128] [--wide 2] [--most 1.3]

Random 4-bit weights, float32 activations, one prompt; embeddings and head are left out. In each
round all families take their turn, and each is divided by the Llama of its round.
"""

import argparse
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
import numpy as np
from rich.table import Table

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
from bessemer.bench.compare.machine import cpu_tier
from bessemer.bench.compare.show import console
from bessemer.bench.compare.stats import paired, rotated
from bessemer.bench.models.random_weights import Drawn
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
class Subject:
    """A family's decoder; `work` is a token's arithmetic in all layers' matrices."""

    name: str
    decoder: Decoder
    work: float


def families(wide: int = 1) -> Mapping[str, dict[str, Any]]:
    """The config.json of each, by model_type."""
    found = tomllib.loads(FILE.read_text())
    base = found.pop("base")
    every = {name: {**base, **own, "model_type": name} for name, own in found.items()}
    return {
        name: {key: each * wide if key in WIDTHS else each for key, each in config.items()}
        for name, config in every.items()
    }


def subject(name: str, wide: int = 1) -> Subject:
    mx.random.seed(0)
    config = configure(families(wide)[name])
    experts = [b.feed_forward for b in config.blocks if isinstance(b.feed_forward, MoeConfig)]
    drawn = Drawn(config, chosen={each.count: each.per_token for each in experts})
    return Subject(name, Decoder.load(config, drawn), drawn.work)


def attending(block: BlockConfig, context: float) -> float:
    """The arithmetic between tokens, for one token that sees `context` of them."""
    match block.mixer:
        case AttentionConfig() as own:
            seen = min(context, own.window or context)
            return 4.0 * seen * own.heads * own.head_dim
        case LatentConfig() as own:
            return 2.0 * context * own.heads * (2 * own.rank + own.rope_dim)
        case DeltaConfig() as own:
            return 8.0 * own.heads * own.key_dim * own.value_dim + 2.0 * own.width * own.channels
        case SsmConfig() as own:
            return 6.0 * own.heads * own.head_dim * own.state + 2.0 * own.width * own.channels
    return 0.0


def caches(config: ModelConfig, tokens: int) -> list[Cache]:
    """For one sequence of so many tokens."""
    pages = (-(-tokens // PAGE),) * len(config.windows)
    return allocate(config, CacheSizes(config.windows, pages, states=1), Format.FLOAT16)


def step(config: ModelConfig, start: int, count: int) -> StepRows:
    """The next `count` tokens of the sequence, a run or a single one."""
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
        mx.full((count,), start + count, mx.int32),
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """Something to time, and the arithmetic it means."""

    run: Callable[[], object]
    work: float


def prefill(found: Subject, tokens: int) -> Timed:
    config = found.decoder.config
    kept, at = caches(config, tokens), step(config, 0, tokens)
    words = mx.array(np.random.default_rng(1).integers(0, config.vocab_size, tokens))
    between = sum(attending(block, tokens / 2) for block in config.blocks)
    work = tokens * (found.work + between)
    return Timed(lambda: mx.eval(found.decoder.hidden(words, at, kept)[0]), work)


def decode(found: Subject, context: int) -> Timed:
    config = found.decoder.config
    kept = caches(config, context + 1)
    words = mx.array(np.random.default_rng(1).integers(0, config.vocab_size, context))
    mx.eval(found.decoder.hidden(words, step(config, 0, context), kept)[0])
    at = step(config, context, 1)
    work = found.work + sum(attending(block, context + 1) for block in config.blocks)
    return Timed(lambda: mx.eval(found.decoder.hidden(words[:1], at, kept)[0]), work)


def measure(subjects: Mapping[str, Timed], rounds: int, times: int) -> dict[str, list[float]]:
    """Nanoseconds for a thousand operations, by round; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(rounds + 1):
        for name in rotated(list(subjects), turn):
            began = time.perf_counter()
            for _ in range(times):
                subjects[name].run()
            seconds = (time.perf_counter() - began) / times
            if turn:
                found[name].append(1e12 * seconds / subjects[name].work)
    return found


def table(
    prompts: Mapping[str, Sequence[float]], tokens: Mapping[str, Sequence[float]], most: float
) -> Table:
    shown = Table("family", "prefill, GFLOP/s", "x Llama", "decode, GFLOP/s", "x Llama", "")
    for name in prompts:
        cells, worst = [name], 0.0
        for found in (prompts, tokens):
            ratio = median(paired(found[name], found[FIRST]))
            worst = max(worst, ratio)
            cells += [f"{1000 / median(found[name]):.1f}", f"{ratio:.2f}"]
        shown.add_row(*cells, "" if worst <= most else f"over {most}")
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", choices=[*families(), []], metavar="FAMILY")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--wide", type=int, default=1)
    parser.add_argument("--most", type=float, default=1.3)
    options = parser.parse_args()
    tier = cpu_tier()
    names = list(dict.fromkeys([FIRST, *(options.families or families())]))
    subjects = {name: subject(name, options.wide) for name in names}
    prompts = {name: prefill(each, options.tokens) for name, each in subjects.items()}
    tokens = {name: decode(each, options.context) for name, each in subjects.items()}
    found = measure(prompts, options.rounds, 1), measure(tokens, options.rounds, 5)
    shown = table(*found, options.most)
    shown.title = f"CPU tier: {tier or 'none'}"
    console().print(shown)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
