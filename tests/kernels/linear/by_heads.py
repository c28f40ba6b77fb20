"""Linear layers of heads, with heads as an axis: (rows, heads, width) to (rows, heads, width)."""

from collections.abc import Callable
from functools import partial

import mlx.core as mx

from bessemer.kernels.linear import head_linear as module
from bessemer.kernels.linear.weight import Weight


def _by_heads(
    form: Callable[[mx.array, Weight, int, int], mx.array],
    x: mx.array,
    weight: Weight,
    rest: int = 0,
) -> mx.array:
    rows, heads, _ = x.shape
    out = form(x.flatten(1), weight, heads, rest)
    return out.reshape(rows, heads, out.shape[1] // heads)


def covers(x: mx.array, weight: Weight, rest: int = 0) -> bool:
    return module.covers(x.flatten(1), weight, x.shape[1], rest)


head_linear = partial(_by_heads, module.head_linear)
head_linear_mlx = partial(_by_heads, module.head_linear_mlx)
head_linear_reference = partial(_by_heads, module.head_linear_reference)
