"""mlx_lm's host code against a modelled GPU; run as a file by any interpreter that has it.

That is why it is no typer command, and imports of ours only what needs mlx and numpy alone. It
takes one order as JSON, and answers with a figure.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx

FIRST_WORD = 16


def figure(order: dict[str, Any]) -> dict[str, Any]:
    """Measure decoding after prompts of that length."""
    measuring = import_module("bessemer.bench.host.measure")
    timing = import_module("bessemer.kernels.simulator.timing")
    speed = import_module("bessemer.kernels.simulator.clock").Speed(**order["speed"])
    with timing.timed(timing.TimedRun(speed, order["scale"])) as run:
        with run.clock.paused():
            generating, model = loaded(Path(order["path"]))
        streams, context = order["streams"], order["context"]

        def begin(time: int) -> Callable[[], int]:
            prompts = [
                [FIRST_WORD + time * streams + number + place % 100 for place in range(context)]
                for number in range(streams)
            ]
            return (one if streams == 1 else many)(generating, model, prompts)

        measured: dict[str, Any] = measuring.measure(
            run, "mlx_lm", streams, context, begin, order["steps"]
        ).as_dict()
    return measured


def loaded(path: Path) -> tuple[Any, Any]:
    """Return mlx_lm's generators, and a model without weights.

    It is imported here, since what it compiles is to be compiled by the clock's stand-in; only
    its stream is one of this CPU.
    """
    claimed, actual = mx.default_device, mx.Device(mx.DeviceType.cpu)
    setattr(mx, "default_device", lambda: actual)  # noqa: B010
    try:
        generating = import_module("mlx_lm.generate")
    finally:
        setattr(mx, "default_device", claimed)  # noqa: B010
    weightless = import_module("bessemer.bench.host.weightless")
    load_model = import_module("mlx_lm.utils").load_model
    model, _ = weightless.load(lambda: load_model(path, lazy=True))
    tree_map = import_module("mlx.utils").tree_map
    model.update(tree_map(weightless.hollow, model.parameters()))
    return generating, model


def one(generating: Any, model: Any, prompts: list[list[int]]) -> Callable[[], int]:
    """Return the step of mlx_lm's generator of one stream, once its prompt is read."""
    prompt = mx.array(prompts[0])
    tokens = generating.generate_step(prompt, model, max_tokens=1 << 20)
    next(tokens)

    def step() -> int:
        next(tokens)
        return 1

    return step


def many(generating: Any, model: Any, prompts: list[list[int]]) -> Callable[[], int]:
    """Return the step of mlx_lm's generator of batches, once all prompts are read."""
    streams = len(prompts)
    batch = generating.BatchGenerator(
        model, completion_batch_size=streams, prefill_batch_size=streams
    )
    waiting = set(batch.insert(prompts, [1 << 20] * streams))
    while waiting:
        waiting -= {answer.uid for answer in batch.next_generated()}
    return lambda: len(batch.next_generated())


def main() -> int:
    order = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.append(order["packages"])
    print(json.dumps(figure(order)), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
