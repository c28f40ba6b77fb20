"""The tensors of a GGUF file, as the converter left them, by the names that layers have."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ...kernels.linear.superblocks import VALUES
from ...kernels.linear.weight import Quantized, arrays_of, flattened, with_arrays
from ..checkpoint.weight_files import CheckpointError
from ..checkpoint.weights import FLOATS
from ..remedies import unreadable
from .blocks import BLOCKS
from .codebooks import CODEBOOKS
from .container import Gguf, GgufTensor, opened
from .families import family
from .family import UNUSED, Change, key_heads, layer_count, needed

BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A tensor as the converter left it, and how that is undone.

    `rows` are those of the file that layers have, in their order, and `columns` likewise, of parts
    of as many columns; `undone` gives the numbers back.
    """

    tensor: GgufTensor
    shape: tuple[int, ...]
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    undone: Callable[[mx.array], mx.array] | None = None

    @property
    def dtype(self) -> str:
        return "F32" if self.undone and not self.in_blocks else self.tensor.type.name

    @property
    def in_blocks(self) -> bool:
        """True where the numbers are codes: then it is read by `matrix`, else by `array`."""
        return self.tensor.type.name in BLOCKS

    @property
    def is_widened(self) -> bool:
        """True where the numbers take more bits than in the file."""
        return self.tensor.type.name in CODEBOOKS

    @property
    def bytes(self) -> int:
        """What it takes once it is read."""
        count = math.prod(self.shape)
        if not self.in_blocks:
            return count * FLOATS[self.dtype].size
        return BLOCKS[self.tensor.type.name].loaded_bytes(count, self._by_groups)

    @property
    def _by_groups(self) -> bool:
        """True where columns move that are less than a superblock: each group is for itself."""
        return self.columns is not None and self._width % VALUES > 0

    @property
    def _width(self) -> int:
        """The columns of a part."""
        return self.shape[-1] // (1 if self.columns is None else len(self.columns))

    def array(self) -> mx.array:
        """Read a floating tensor, evaluated."""
        raw = mx.array(self._ordered())
        array = raw.reshape(-1).view(FLOATS[self.tensor.type.name])
        array = self._by_columns(array.reshape(-1, self.shape[-1])).reshape(self.shape)
        if self.undone is not None:
            array = self.undone(array.astype(mx.float32))
        mx.eval(array)
        return array

    def matrix(self, exact: bool) -> Quantized:
        """Read a quantized one; what stands in its first dimensions is one below the other."""
        weight = BLOCKS[self.tensor.type.name].matrix(self._ordered(), exact)
        if self.columns is None:
            return weight
        if self._by_groups:
            weight = flattened(weight)
        if self._width % weight.group:
            raise CheckpointError(
                f"{self.tensor.file} holds {self.tensor.name} as {self.tensor.type.name}, in "
                f"groups of {weight.group}, wider than a head of {self._width}; fetch the model in "
                "F16"
            )
        moved = with_arrays(weight, [self._by_columns(each) for each in arrays_of(weight)])
        assert isinstance(moved, Quantized)
        mx.eval(*arrays_of(moved))
        return moved

    def _ordered(self) -> np.ndarray:
        rows = mapped(self.tensor)
        if self.rows is None:
            return rows
        if len(self.tensor.shape) == 1:  # its numbers are the rows
            rows = rows.reshape(self.tensor.shape[0], -1)
        ordered: np.ndarray = rows[self.rows]
        return ordered

    def _by_columns(self, array: mx.array) -> mx.array:
        """Return (rows, some for each column) with its parts in their order."""
        if self.columns is None:
            return array
        parts = array.reshape(array.shape[0], len(self.columns), -1)
        return parts[:, mx.array(self.columns)].reshape(array.shape)


def mapped(tensor: GgufTensor) -> np.ndarray:
    """Map a tensor of a file, (rows, bytes of a row); raises CheckpointError."""
    try:
        raw = np.memmap(tensor.file, np.uint8, "r", tensor.offset, (tensor.bytes,))
    except OSError as error:
        raise CheckpointError(unreadable(tensor.file, error)) from None
    return raw.reshape(math.prod(tensor.shape[:-1]), -1)


def gguf_tensors(path: Path) -> dict[str, Source]:
    """Return the tensors by the names that layers have. Raises CheckpointError."""
    gguf = opened(path)
    kind, layers = family(gguf), layer_count(gguf)
    tensors: dict[str, Source] = {}
    for name, tensor in gguf.tensors.items():
        match = BLOCK.fullmatch(name)
        if name.rpartition(".")[0] in UNUSED or (match and int(match[1]) >= layers):
            continue
        if tensor.type.name not in BLOCKS and tensor.type.name not in FLOATS:
            raise CheckpointError(
                f"{tensor.file} holds {name} as {tensor.type.name}, which is not read here; fetch "
                "the model in another quantization"
            )
        sources = kind.sources(match[2] if match else name)
        if sources is None:
            raise CheckpointError(
                f"{path} has the tensor {name}, which {kind.model_type} does not have here"
            )
        before = f"{kind.layers}.{match[1]}." if match else ""
        tensors |= {before + place: _source(gguf, tensor, how) for place, how in sources}
    return tensors


def _source(gguf: Gguf, tensor: GgufTensor, changes: Sequence[Change]) -> Source:
    """Return the way back from what became of a tensor, one change after the other."""
    shape, rows, columns, undone = tensor.shape, None, None, None
    for change in changes:
        if change in ROWS:
            rows = ROWS[change](gguf, math.prod(shape[:-1] or shape))
            shape = (len(rows), *shape[1:][-1:])
        elif change in COLUMNS:
            parts = needed(gguf, "ssm.time_step_rank")
            if shape[-1] % parts:
                raise _undivided(gguf, shape[-1], parts)
            columns = COLUMNS[change](gguf, parts)
        elif change in SHAPES:
            shape = SHAPES[change](shape)
        else:
            undone = NUMBERS[change]
    return Source(tensor, shape, rows, columns, undone)


def _numbered(gguf: Gguf, count: int, *shape: int) -> np.ndarray:
    """Return the numbers of rows in a shape, of which one size is -1. Raises CheckpointError."""
    parts = abs(math.prod(shape))
    if count % parts:
        raise _undivided(gguf, count, parts)
    return np.arange(count).reshape(shape)


def _undivided(gguf: Gguf, count: int, parts: int) -> CheckpointError:
    return CheckpointError(
        f"{gguf.path} has a tensor of {count} rows or columns, which its heads do not divide into "
        f"{parts}; fetch it again"
    )


def _paired(gguf: Gguf, count: int, heads: int) -> np.ndarray:
    """Return rows of halves that are rotated together where they lie in pairs."""
    return _numbered(gguf, count, heads, -1, 2).swapaxes(1, 2).reshape(-1)


def _tiled(gguf: Gguf, count: int) -> np.ndarray:
    """Return heads of values by their heads of keys, where they lie by turns."""
    keys, each = _heads(gguf)
    return _numbered(gguf, count, each, keys, -1).swapaxes(0, 1).reshape(-1)


def _tiled_values(gguf: Gguf, count: int) -> np.ndarray:
    """Return the same where queries and keys are above, as they are."""
    above = 2 * needed(gguf, "ssm.group_count") * needed(gguf, "ssm.state_size")
    if above > count:
        raise _undivided(gguf, count, above)
    return np.concatenate([np.arange(above), above + _tiled(gguf, count - above)])


def _either(gguf: Gguf, count: int, part: int) -> np.ndarray:
    """Return the first or the second half of the rows of each head of keys."""
    keys, each = _heads(gguf)
    return _numbered(gguf, count, keys, 2, -1)[:, part, :each].reshape(-1)


def _third(gguf: Gguf, count: int, part: int) -> np.ndarray:
    rows: np.ndarray = _numbered(gguf, count, 3, -1)[part]
    return rows


def _heads(gguf: Gguf) -> tuple[int, int]:
    """Return a delta net's heads of keys, and the heads of values that each has."""
    keys, values = needed(gguf, "ssm.group_count"), needed(gguf, "ssm.time_step_rank")
    return keys, max(values // keys, 1)


# Ways back, by what became of a tensor.
ROWS: Mapping[Change, Callable[[Gguf, int], np.ndarray]] = {
    "paired": lambda gguf, count: _paired(gguf, count, needed(gguf, "attention.head_count")),
    "paired_keys": lambda gguf, count: _paired(gguf, count, key_heads(gguf)),
    "tiled": _tiled,
    "tiled_values": _tiled_values,
    "first": lambda gguf, count: _third(gguf, count, 0),
    "second": lambda gguf, count: _third(gguf, count, 1),
    "third": lambda gguf, count: _third(gguf, count, 2),
    "betas": lambda gguf, count: _either(gguf, count, 0),
    "alphas": lambda gguf, count: _either(gguf, count, 1),
}
COLUMNS: Mapping[Change, Callable[[Gguf, int], np.ndarray]] = {"tiled_columns": _tiled}
SHAPES: Mapping[Change, Callable[[tuple[int, ...]], tuple[int, ...]]] = {
    "flat": lambda shape: (math.prod(shape),),
    "convolution": lambda shape: (*shape, 1),
}
NUMBERS: Mapping[Change, Callable[[mx.array], mx.array]] = {
    "shifted": lambda array: array - 1,
    "decay": lambda array: mx.log(-array),
}
