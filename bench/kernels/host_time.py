"""Host time of a decode step on the Metal path: Python and graph building, with empty kernels.

python -P -m bessemer.bench.kernels.host_time [--layers 16 --layers 30] [--sequences 1]

The whole engine steps on a Llama: scheduler, batch, forward pass, sampler. Each kernel is a node of
MLX's graph that depends on its inputs and gives zeros (kernels/simulator/hollow.py), so that no GPU
is needed and what remains is the time of the thread that steps. What MLX spends on hashing a
kernel's text and on encoding a command buffer is not in it. Widths are small: they are nothing to
Python. `bessemer bench host` says how much of this time a GPU would wait.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from typer import Option

from bessemer.bench.command import command
from bessemer.bench.compare.stats import Summary, rotated, summary
from bessemer.bench.host.gpu import modelled_gpu
from bessemer.bench.models.hardware import chips
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.engine import serving
from bessemer.engine.engine import Engine
from bessemer.engine.request import Request, Sampling
from bessemer.engine.settings import Settings

MEMORY = 1 << 32  # bytes that the engine may plan with
POOL = 1 << 27  # of its KV cache: MLX copies a pool whenever tails are flushed into it
STEPS = 8  # of a case at a time
CONTEXT = 2  # tokens of each prompt: so few take the kernels of a step, not MLX on this CPU
CHIP = "m4-max"  # any: its time is not asked for

Case = tuple[int, int]


def decoding(layers: int, sequences: int) -> Engine:
    """Return an engine in which this many sequences of a Llama decode, prompts behind them."""
    tiny = shape("tiny")
    llama = replace(tiny, config={**tiny.config, "num_hidden_layers": layers})
    path = checkpoint(llama, Storage(4, 32, "float16"), 0)
    engine = serving.load(path, Settings(max_batch=sequences, kv_cache=POOL), MEMORY).engine
    for number in range(sequences):
        tokens = [16 + (number + place) % 100 for place in range(CONTEXT)]
        engine.submit(
            Request(
                id=number,
                tokens=tokens,
                max_tokens=1 << 20,
                ignore_eos=True,
                sampling=Sampling(temperature=0),
            )
        )
    while engine.scheduler.waiting or any(s.pending > 1 for s in engine.scheduler.running):
        engine.step()
    return engine


def host_times(cases: Sequence[Case], rounds: int) -> dict[Case, list[float]]:
    """Return each case's milliseconds a step, of the thread alone, in interleaved rounds.

    A case is a number of layers and a number of sequences.
    """
    times: dict[Case, list[float]] = {case: [] for case in cases}
    with modelled_gpu(chips()[CHIP]) as run:
        with run.clock.paused():
            engines = {case: decoding(*case) for case in cases}
        for number in range(-1, rounds):  # the first round warms
            for case in rotated(cases, number):
                began = run.clock.computed()
                for _ in range(STEPS):
                    engines[case].step()
                if number >= 0:
                    times[case].append((run.clock.computed() - began) / STEPS * 1e3)
    return times


def a_layer(times: Mapping[Case, Sequence[float]], sequences: int) -> tuple[Summary, Summary]:
    """Return milliseconds that a layer adds, and those of a step besides its layers, by rounds."""
    few, many = (
        pick(layers for layers, count in times if count == sequences) for pick in (min, max)
    )
    pairs = zip(times[few, sequences], times[many, sequences], strict=True)
    slopes = [((slow - fast) / (many - few), fast) for fast, slow in pairs]
    return summary([each for each, _ in slopes]), summary([f - few * each for each, f in slopes])


@command(__doc__)
def main(
    layers: Annotated[list[int], Option(min=1, metavar="N", help="Repeatable.")] = [16, 30],  # noqa: B006
    sequences: Annotated[list[int], Option(min=1, metavar="N", help="Repeatable.")] = [1, 8],  # noqa: B006
    rounds: Annotated[int, Option(min=1, max=200, metavar="N", help="Interleaved rounds.")] = 60,
) -> int:
    """Print the median host time of a decode step, and what each layer adds to it."""
    times = host_times([(depth, count) for count in sequences for depth in layers], rounds)
    for (depth, count), samples in times.items():
        print(f"{depth} layers, {count} sequences: {spread(summary(samples))} ms a step")
    if len(set(layers)) > 1:
        for count in sequences:
            each, rest = a_layer(times, count)
            print(f"{count} sequences: {spread(each)} ms a layer, {spread(rest)} ms besides")
    return 0


def spread(samples: Summary) -> str:
    return f"{samples.median:.3f} ({samples.low:.3f} to {samples.high:.3f})"


if __name__ == "__main__":
    sys.exit(main())
