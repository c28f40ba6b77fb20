"""Bytes that decode kernels move against the least that must move, counted in the simulator.

python -m bessemer.bench.kernels.traffic [--shape NAME ...] [--rows N ...] [--context N ...]
python -m bessemer.bench.kernels.traffic --prompt 481

The second counts a prompt's experts, against reading an expert anew for each token it serves.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bessemer.bench.kernels.profiling import DISCLAIMER, Profile, profile
from bessemer.bench.kernels.workload import Demand, Dimensions
from bessemer.bench.kernels.workloads import MODULES, workloads
from bessemer.bench.models.shapes import shape

SHAPES = ("llama-3.2-1b", "qwen3-1.7b", "deepseek-v2-lite", "qwen3-30b-a3b")
DECODE = ("linear", "linear_rows", "attention", "latent_attention", "head_linear", "route", "moe")
LAW = 1.05  # of the minimum, for the kernels that read weights or the cache
QUARTER = 0.25  # of the unsorted gather's bytes, for a prompt's experts
SHARED = 32 * 1024  # bytes of threadgroup memory, at most


def profiles(
    names: Sequence[str], rows: Sequence[int], contexts: Sequence[int], operations: Sequence[str]
) -> Iterator[tuple[str, Demand, Profile]]:
    for name in names:
        base = Demand(Dimensions.of(shape(name).config))
        for count in rows:
            for context in contexts:
                demand = replace(base, rows=count, context=context)
                for operation in operations:
                    if operation not in ("attention", "latent_attention") and context > contexts[0]:
                        continue  # nothing else depends on it
                    for workload in workloads(operation, demand):
                        yield name, demand, profile(workload, count)


def unsorted(demand: Demand) -> int:
    """Bytes of weights that pairs of token and expert read one by one."""
    of = demand.dimensions
    weights = 3 * of.expert_width * of.hidden
    scales = 2 * demand.dtype.size * weights // demand.group
    return demand.rows * of.per_token * (weights * demand.bits // 8 + scales)


def prompts(names: Sequence[str], rows: int) -> int:
    """1 where the experts of a prompt move more than a quarter of the unsorted gather's bytes."""
    over = 0
    print("| shape | tokens | launches | moved, MB | unsorted, MB | share |")
    print("|---|---|---|---|---|---|")
    for name in names:
        demand = Demand(Dimensions.of(shape(name).config), rows=rows, prompt=True)
        for workload in workloads("moe", demand):
            found = profile(workload)
            share = found.moved / unsorted(demand)
            over += share > QUARTER
            print(
                f"| {name} | {rows} | {len(found.kernels)} | {found.moved / 1e6:.1f} "
                f"| {unsorted(demand) / 1e6:.1f} | {share:.3f} |",
                flush=True,
            )
    print(f"\n{over} over {QUARTER}; {DISCLAIMER}.")
    return int(over > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """1 where a kernel moves too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", action="append", help=f"default: {', '.join(SHAPES)}")
    parser.add_argument("--rows", type=int, action="append", help="sequences; default: 1")
    parser.add_argument("--context", type=int, action="append", help="default: 512 and 4096")
    parser.add_argument("--operation", action="append", choices=tuple(MODULES))
    parser.add_argument("--prompt", type=int, metavar="TOKENS")
    options = parser.parse_args(arguments)
    if options.prompt:
        return prompts(options.shape or SHAPES, options.prompt)
    over = 0
    print(f"| shape | operation | rows, context | launches | moved, KB | least, KB | ratio "
          f"| re-read, KB | threadgroup memory |\n|{'---|' * 9}")  # fmt: skip
    for name, demand, found in profiles(
        options.shape or SHAPES,
        options.rows or (1,),
        options.context or (512, 4096),
        options.operation or DECODE,
    ):
        shared = max((kernel.threadgroup_bytes for kernel in found.kernels), default=0)
        over += found.ratio > LAW or shared > SHARED
        print(
            f"| {name} | {found.operation}, {found.use} | {demand.rows}, {demand.context} "
            f"| {len(found.kernels)} | {found.moved / 1e3:.1f} | {found.minimum / 1e3:.1f} "
            f"| {found.ratio:.3f} | {found.reread / 1e3:.1f} | {shared} |",
            flush=True,
        )
    print(f"\n{over} over {LAW} or over {SHARED} bytes of threadgroup memory; {DISCLAIMER}.")
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
