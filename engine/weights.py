"""A checkpoint's tensors for a decoder: each is checked, read once and then forgotten."""

from collections import Counter
from pathlib import Path

import mlx.core as mx

from ..architectures.config import Affine, ModelConfig
from ..kernels.weight import Dense, Quantized, activation_dtype
from .checkpoint import Checkpoint, CheckpointError, Header

FLOATS = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
PACKED = {"U32": mx.uint32}
# A buffer that older exporters saved although it follows from the config.
HARMLESS = ".rotary_emb.inv_freq"


class Weights:
    """`Parameters` for a decoder, over one checkpoint; `finish` when it has taken what it needs."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, exact: bool = False) -> None:
        self.config = config
        self.exact = exact  # see kernels.linear.Quantized
        self.bytes = 0
        self.dtype = activation_dtype(stored_dtype(checkpoint))
        self._headers = dict(checkpoint.tensors)
        self._path = checkpoint.path
        self._files: dict[Path, dict[str, mx.array]] = {}

    def vector(self, name: str, size: int) -> mx.array:
        vector = self._take(name, (size,), FLOATS).astype(self.dtype)
        mx.eval(vector)
        return vector

    def stack(self, module: str, count: int, rows: int, columns: int) -> Dense | Quantized | None:
        if f"{module}.weight" not in self._headers:
            return None
        return self._read(module, (count, rows), columns)

    def matrix(self, module: str, rows: int, columns: int) -> Dense | Quantized:
        return self._read(module, (rows,), columns)

    def _read(self, module: str, rows: tuple[int, ...], columns: int) -> Dense | Quantized:
        """Of more dimensions of rows one is made."""
        quantized = self._affine(module)
        if quantized is None:
            return Dense(self._flat(f"{module}.weight", (*rows, columns), FLOATS))
        group, bits = quantized.group, quantized.bits
        if columns % group:
            raise CheckpointError(
                f"{self._path}: {module} has {columns} columns, not a multiple of its group {group}"
            )
        grouped = (*rows, columns // group)
        words = self._flat(f"{module}.weight", (*rows, columns * bits // 32), PACKED)
        scales, biases = (
            self._flat(f"{module}.{part}", grouped, FLOATS) for part in ("scales", "biases")
        )
        if scales.dtype != biases.dtype:  # kernels take them in one type, and float32 holds both
            scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
            mx.eval(scales, biases)
        return Quantized(words, scales, biases, group, bits, exact=self.exact)

    def finish(self) -> None:
        """Refuses tensors that the model has no use for: they are another model's."""
        left = [name for name in self._headers if not self._harmless(name)]
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise CheckpointError(
                f"{self._headers[left[0]].file} has the tensor {left[0]}{more}, "
                f"which {self.config.model_type} does not use as configured"
            )
        self._files.clear()

    def _affine(self, module: str) -> Affine | None:
        """As mlx_lm decides: by the module's own entry, else by whether there are scales."""
        quantization = self.config.quantization
        if module in quantization.modules:
            return quantization.modules[module]
        header = self._headers.get(f"{module}.scales")
        if header is not None and quantization.default is None:
            raise CheckpointError(
                f"{header.file} has {module}.scales, but config.json says nothing of quantization"
            )
        return None if header is None else quantization.default

    def _harmless(self, name: str) -> bool:
        return name.endswith(HARMLESS) or (self.config.tied and name.startswith("lm_head."))

    def _flat(self, name: str, shape: tuple[int, ...], dtypes: dict[str, mx.Dtype]) -> mx.array:
        array = self._take(name, shape, dtypes)
        if len(shape) > 2:
            array = array.reshape(-1, shape[-1])
            mx.eval(array)
        return array

    def _take(self, name: str, shape: tuple[int, ...], dtypes: dict[str, mx.Dtype]) -> mx.array:
        header = self._headers.pop(name, None)
        if header is None:
            raise CheckpointError(f"{self._path} lacks the tensor {name}")
        if header.dtype not in dtypes:
            raise CheckpointError(
                f"{header.file}: {name} is {header.dtype}, expected {' or '.join(dtypes)}"
            )
        if header.shape != shape:
            raise CheckpointError(
                f"{header.file}: {name} has shape {header.shape}, where config.json implies {shape}"
            )
        array = self._open(header).pop(name)
        mx.eval(array)
        self.bytes += array.nbytes
        return array

    def _open(self, header: Header) -> dict[str, mx.array]:
        """MLX reads an array only when it is evaluated."""
        if header.file not in self._files:
            try:
                loaded = mx.load(str(header.file), format="safetensors")
            except RuntimeError as error:
                raise CheckpointError(f"{header.file} cannot be read by MLX: {error}") from None
            assert isinstance(loaded, dict)
            self._files[header.file] = loaded
        return self._files[header.file]


def stored_dtype(checkpoint: Checkpoint) -> mx.Dtype:
    """The floating dtype that most tensors have."""
    counts = Counter(h.dtype for h in checkpoint.tensors.values() if h.dtype in FLOATS)
    if not counts:
        raise CheckpointError(f"{checkpoint.path} has no tensor of {', '.join(FLOATS)}")
    return FLOATS[counts.most_common(1)[0][0]]
