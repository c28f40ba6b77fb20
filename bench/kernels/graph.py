"""The kernels that a step launches on a GPU, counted in its graph; mlx_lm's when run as a file.

Any interpreter that has mlx_lm runs it, so it imports nothing of ours, nor typer. No GPU is needed:
the step is traced, not computed. On a CPU MLX spells its fast operations out, and in a trace what
is compiled, so each of them is made one node first.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx

# Nodes that only look at memory in another way; the others are a kernel each.
FREE = frozenset(
    (
        *("AsStrided", "Broadcast", "BroadcastAxes", "Depends", "ExpandDims", "Flatten"),
        *("Reshape", "Slice", "Split", "Squeeze", "StopGradient", "Transpose", "Unflatten", "View"),
    )
)
COUNTING: ContextVar[bool] = ContextVar("counting", default=False)
MLX_COMPILE = mx.compile
_TYPES = re.compile(r"(__|_(b?float|u?int|bool)\w*(?=_|$)).*")
FAST = ("rms_norm", "layer_norm", "rope", "scaled_dot_product_attention")


def launches(step: Callable[..., Any], *inputs: mx.array) -> "Counter[str]":
    """Count kernels that depend on the inputs, by name of the node or of the custom kernel."""
    counts: Counter[str] = Counter()
    reached: set[str] = set()

    def note(part: dict[str, Any]) -> None:
        if part["type"] == "inputs":
            reached.update(name for name, *_ in part["inputs"])
        elif part["type"] == "primitive":
            if not reached.intersection(name for name, *_ in part["inputs"]):
                return
            reached.update(name for name, *_ in part["outputs"])
            if part["name"] not in FREE:
                counts[_name(part)] += 1

    mx.export_function(note, step, *inputs)
    return counts


def _name(part: dict[str, Any]) -> str:
    """Return a node's name; a custom kernel's is without template values and types."""
    if part["name"] != "CustomKernel":
        return str(part["name"])
    return _TYPES.sub("", str(part["arguments"][0]).removeprefix("custom_kernel_"))


def single(name: str, shape: Sequence[int], dtype: mx.Dtype, *inputs: mx.array) -> mx.array:
    """Return an array that is one node of that name."""
    names = [f"input{i}" for i in range(len(inputs))]
    build: Any = mx.fast.metal_kernel  # the stubs say that it gives an object
    out: mx.array
    (out,) = build(name, names, ["out"], "out[0] = 0;")(
        inputs=list(inputs),
        output_shapes=[tuple(shape)],
        output_dtypes=[dtype],
        grid=(1, 1, 1),
        threadgroup=(1, 1, 1),
    )
    return out


@contextmanager
def fast_as_one() -> Iterator[None]:
    """Within the block each of MLX's fast operations is one node, as it is on a GPU."""
    originals = {name: getattr(mx.fast, name) for name in FAST}
    token = COUNTING.set(True)
    try:
        for name in FAST:
            setattr(mx.fast, name, _standing_for(name))
        yield
    finally:
        COUNTING.reset(token)
        for name, function in originals.items():
            setattr(mx.fast, name, function)


def compiled_as_one(function: Any = None, **options: Any) -> Any:
    """Stands for `mx.compile`: while kernels are counted, a compiled function is one node."""
    if function is None:
        return lambda each: compiled_as_one(each, **options)
    compiled = MLX_COMPILE(function, **options)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        if not COUNTING.get():
            return compiled(*arguments)
        out = function(*arguments)
        arrays = [each for each in arguments if isinstance(each, mx.array)]
        return single(function.__name__, out.shape, out.dtype, *arrays)

    return call


def _standing_for(name: str) -> Callable[..., mx.array]:
    def stand(x: mx.array, *others: Any, **_: Any) -> mx.array:
        arrays = [each for each in others if isinstance(each, mx.array)]
        shape = x.shape
        if name == "scaled_dot_product_attention":
            shape = (*x.shape[:-1], arrays[1].shape[-1])
        return single(name, shape, x.dtype, x, *arrays)

    return stand


def of_mlx_lm(path: Path) -> "Counter[str]":
    """Count one decoded token of the model at `path`, after one that is really computed."""
    setattr(mx, "compile", compiled_as_one)  # noqa: B010 - before mlx_lm compiles its activations
    model, _ = import_module("mlx_lm.utils").load_model(path)
    cache = import_module("mlx_lm.models.cache").make_prompt_cache(model)
    model(mx.zeros((1, 1), mx.int32), cache=cache)
    mx.eval([each.state for each in cache])
    with fast_as_one():
        return launches(lambda tokens: model(tokens, cache=cache), mx.zeros((1, 1), mx.int32))


def main() -> int:
    print(json.dumps(of_mlx_lm(Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
