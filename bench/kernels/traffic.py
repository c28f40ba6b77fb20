"""Bytes that decode kernels move against the least that must move, counted in the simulator.

With --prompt, a prompt's experts are counted instead, against reading an expert anew for each token
that it serves.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

from typer import Option

from bessemer.bench.command import FAILED, command, one_of
from bessemer.bench.kernels.profiling import DISCLAIMER, Profile, profile
from bessemer.bench.kernels.workload import Demand, Dimensions
from bessemer.bench.kernels.workloads import MODULES, workloads
from bessemer.bench.models.shapes import shape

SHAPES = ("llama-3.2-1b", "qwen3-1.7b", "deepseek-v2-lite", "qwen3-30b-a3b")
DECODE = ("linear", "linear_rows", "attention", "latent_attention", "head_linear", "route", "moe")
MAX_RATIO = 1.05  # of the minimum, for the kernels that read weights or the cache
MAX_SHARE = 0.25  # of the unsorted gather's bytes, for a prompt's experts
MAX_SHARED = 32 * 1024  # bytes of threadgroup memory, at most


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
    """Return the bytes of weights that pairs of token and expert read one by one."""
    model = demand.dimensions
    weights = 3 * model.expert_width * model.hidden
    scales = 2 * demand.dtype.size * weights // demand.group
    return demand.rows * model.per_token * (weights * demand.bits // 8 + scales)


def prompts(names: Sequence[str], rows: int) -> int:
    """Return 1 where a prompt's experts move over a quarter of the unsorted gather's bytes."""
    over = 0
    print("| shape | tokens | launches | moved, MB | unsorted, MB | share |")
    print("|---|---|---|---|---|---|")
    for name in names:
        demand = Demand(Dimensions.of(shape(name).config), rows=rows, prompt=True)
        for workload in workloads("moe", demand):
            counted = profile(workload)
            share = counted.moved / unsorted(demand)
            over += share > MAX_SHARE
            print(
                f"| {name} | {rows} | {len(counted.kernels)} | {counted.moved / 1e6:.1f} "
                f"| {unsorted(demand) / 1e6:.1f} | {share:.3f} |",
                flush=True,
            )
    print(f"\n{over} over {MAX_SHARE}; {DISCLAIMER}.")
    return int(over > 0)


# fmt: off
@command(__doc__)
def main(
    shapes: Annotated[list[str], Option(
        "--shape", metavar="NAME", help="Repeatable.",
    )] = [*SHAPES],  # noqa: B006 - nobody changes it
    rows: Annotated[list[int], Option(metavar="N", help="Sequences; repeatable.")] = [1],  # noqa: B006
    context: Annotated[list[int], Option(metavar="N", help="Repeatable.")] = [512, 4096],  # noqa: B006
    operations: Annotated[list[str], Option(
        "--operation", metavar="NAME", parser=one_of(*MODULES), help="Repeatable.",
    )] = [*DECODE],  # noqa: B006
    prompt: Annotated[int, Option(metavar="TOKENS", help="Of a prompt instead of steps.")] = 0,
) -> int:
    # fmt: on
    """Exit with 1 where a kernel moves too much."""
    if prompt:
        return prompts(shapes, prompt)
    over = 0
    print(f"| shape | operation | rows, context | launches | moved, KB | least, KB | ratio "
          f"| re-read, KB | threadgroup memory |\n|{'---|' * 9}")  # fmt: skip
    for name, demand, counted in profiles(shapes, rows, context, operations):
        shared = max((kernel.threadgroup_bytes for kernel in counted.kernels), default=0)
        over += counted.ratio > MAX_RATIO or shared > MAX_SHARED
        print(
            f"| {name} | {counted.operation}, {counted.use} | {demand.rows}, {demand.context} "
            f"| {len(counted.kernels)} | {counted.moved / 1e3:.1f} | {counted.minimum / 1e3:.1f} "
            f"| {counted.ratio:.3f} | {counted.reread / 1e3:.1f} | {shared} |",
            flush=True,
        )
    limits = f"{MAX_RATIO} or over {MAX_SHARED} bytes of threadgroup memory"
    print(f"\n{over} over {limits}; {DISCLAIMER}.")
    return FAILED if over else 0


if __name__ == "__main__":
    sys.exit(main())
