"""Random weights for any decoder, made as its layers ask for them, with the work they mean."""

from dataclasses import dataclass, field
from math import sqrt

import mlx.core as mx

from bessemer.architectures.config import ModelConfig
from bessemer.kernels.linear.weight import Dense, Quantized

GROUP, BITS = 32, 4
POSITIVE = ("norm.weight", "layernorm.weight", ".D")  # around 1, so that activations stay finite


@dataclass(slots=True)
class RandomWeights:
    """`Parameters` of 4-bit weights; `work` counts a token's multiplications and additions.

    It counts a layer's matrices, and the chosen ones of a stack; no embeddings, no head.
    """

    config: ModelConfig
    dtype: mx.Dtype = mx.float32
    work: float = 0.0
    chosen: dict[int, float] = field(default_factory=dict)  # by a stack's count: how many are used

    def has(self, name: str) -> bool:
        return False

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a convolution's shape, which lies as Hugging Face stores it."""
        return (0, 1, 0)

    def vector(self, name: str, *shape: int, dtype: mx.Dtype | None = None) -> mx.array:
        centre = 1.0 if name.endswith(POSITIVE) else 0.0
        values = (centre + 0.1 * mx.random.normal(shape)).astype(dtype or self.dtype)
        mx.eval(values)
        return values

    def stack(
        self, module: str, count: int, rows: int, columns: int, transposed: bool = False
    ) -> Dense | Quantized | None:
        if "switch_mlp" not in module and "embed_q" not in module and "unembed_out" not in module:
            return None
        used = self.chosen.get(count, count)
        self.work += 2.0 * used * rows * columns
        return _random(count * rows, columns)

    def matrix(self, module: str, rows: int, columns: int) -> Dense | Quantized:
        if ".layers." in module:
            self.work += 2.0 * rows * columns
        return _random(rows, columns)

    def refuse(self, module: str, why: str) -> ValueError:
        return ValueError(f"{module} {why}")


def _random(rows: int, columns: int) -> Dense | Quantized:
    if columns % GROUP:
        dense = (mx.random.normal((rows, columns)) / sqrt(columns)).astype(mx.bfloat16)
        mx.eval(dense)
        return Dense(dense)
    packed = mx.random.randint(0, 1 << 32, (rows, columns * BITS // 32), mx.uint32)
    spread = sqrt(12 / columns) / 2**BITS
    scales = mx.full((rows, columns // GROUP), spread, mx.bfloat16)
    biases = scales * -(2**BITS - 1) / 2
    mx.eval(packed, scales, biases)
    return Quantized(packed, scales, biases, GROUP, BITS)
