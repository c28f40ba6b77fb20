"""The tensors of a GGUF file, as the converter left them, by the names that layers have."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ....kernels.linear.weight import Quantized
from ..weight_files import CheckpointError
from .blocks import BLOCKS
from .container import Gguf, GgufTensor, opened
from .families import UNUSED, WHOLE, Change, Family, family

BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
FLOATS = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor as the converter left it, and how that is undone.

    `heads` are those of what is rotated, where rows lie in another order.
    """

    tensor: GgufTensor
    change: Change | None = None
    heads: int = 1

    @property
    def dtype(self) -> str:
        return "F32" if self.change == "shifted" else self.tensor.type.name

    @property
    def in_blocks(self) -> bool:
        """True where the numbers are codes: then it is read by `matrix`, else by `array`."""
        return self.tensor.type.name in BLOCKS

    @property
    def bytes(self) -> int:
        """What it takes once it is read."""
        count = math.prod(self.tensor.shape)
        if not self.in_blocks:
            return count * FLOATS[self.dtype].size
        return BLOCKS[self.tensor.type.name].loaded_bytes(count)

    def array(self) -> mx.array:
        """Read a floating tensor, evaluated."""
        tensor = self.tensor
        raw = mx.array(self._ordered(tensor.rows()))
        array = raw.reshape(-1).view(FLOATS[tensor.type.name]).reshape(tensor.shape)
        if self.change == "shifted":
            array = array.astype(mx.float32) - 1
        mx.eval(array)
        return array

    def matrix(self, exact: bool) -> Quantized:
        """Read a quantized one; what stands in its first dimensions is one below the other."""
        return BLOCKS[self.tensor.type.name].matrix(self._ordered(self.tensor.rows()), exact)

    def _ordered(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of halves that are rotated together where they lie in pairs."""
        if self.change not in ("paired", "paired_keys"):
            return rows
        if len(self.tensor.shape) == 1:  # a bias: its numbers are the rows
            rows = rows.reshape(self.tensor.shape[0], -1)
        by_head = rows.reshape(self.heads, -1, 2, rows.shape[-1])
        return by_head.swapaxes(1, 2).reshape(rows.shape)


def gguf_tensors(path: Path) -> dict[str, Source]:
    """Return the tensors by the names that layers have. Raises CheckpointError."""
    gguf = opened(path)
    kind = family(gguf)
    tensors: dict[str, Source] = {}
    for name, tensor in gguf.tensors.items():
        module, _, part = name.rpartition(".")
        if module in UNUSED:
            continue
        if tensor.type.name not in BLOCKS and tensor.type.name not in FLOATS:
            raise CheckpointError(
                f"{tensor.file} holds {name} as {tensor.type.name}, which is not read here; fetch "
                "the model in another quantization"
            )
        tensors[f"{_renamed(path, kind, module)}.{part}"] = _source(gguf, kind, module, tensor)
    return tensors


def _source(gguf: Gguf, kind: Family, module: str, tensor: GgufTensor) -> Source:
    change = kind.change(module.rpartition(".")[2])
    heads = gguf.value("attention.head_count")
    if change == "paired_keys":
        heads = gguf.value("attention.head_count_kv") or heads
    return Source(tensor, change, heads if change in ("paired", "paired_keys") else 1)


def _renamed(path: Path, kind: Family, module: str) -> str:
    if module in WHOLE:
        return WHOLE[module]
    match = BLOCK.fullmatch(module)
    name = None if match is None else kind.module(match[2])
    if match is None or name is None:
        raise CheckpointError(
            f"{path} has the tensor {module}, which {kind.model_type} does not have here"
        )
    return f"model.layers.{match[1]}.{name}"
