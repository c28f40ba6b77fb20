"""Kernels of a few lines, built and run on the simulator."""

from typing import Any

import mlx.core as mx

from bessemer.kernels.simulator.kernel import MetalKernel, SimulatorOptions, metal_kernel
from bessemer.kernels.simulator.report import Mode

MODES: tuple[Mode, ...] = ("fast", "count", "check")
I = "uint i = thread_position_in_grid.x;\n"  # noqa: E741
COPY = f"{I}o[i] = a[i];"


def run(
    kernel: MetalKernel, *inputs: Any, size: int = 64, group: int = 64, **arguments: Any
) -> Any:
    call: dict[str, Any] = {
        "output_shapes": [(size,)] * len(kernel.definition.output_names),
        "output_dtypes": [mx.float32] * len(kernel.definition.output_names),
        "grid": (size, 1, 1),
        "threadgroup": (group, 1, 1),
    }
    outputs = kernel(inputs=list(inputs), **(call | arguments))
    return outputs[0] if len(outputs) == 1 else outputs


def planted(source: str, mode: Any = "check", **arguments: Any) -> list[mx.array]:
    """Run 64 threads, `group` a threadgroup, with an input `a` and an output `o` of 64 floats."""
    group = arguments.pop("group", 64)
    definition: dict[str, Any] = {
        name: arguments.pop(name)
        for name in ("header", "atomic_outputs", "in_place", "ensure_row_contiguous")
        if name in arguments
    }
    options = SimulatorOptions(mode=mode, **arguments.pop("options", {}))
    kernel = metal_kernel("planted", ["a"], ["o"], source, options=options, **definition)
    call: dict[str, Any] = {
        "inputs": [mx.arange(64, dtype=mx.float32)],
        "output_shapes": [(64,)],
        "output_dtypes": [mx.float32],
        "grid": (64, 1, 1),
        "threadgroup": (group, 1, 1),
    }
    return kernel(**(call | arguments))
