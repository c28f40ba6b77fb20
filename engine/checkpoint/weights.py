"""A checkpoint's tensors for a decoder: each is checked, read once and then forgotten.

The seam for other formats: `_read` gives a module's weight as it is stored, by how the config says
that modules are quantized; a format's own names of tensors end in `rename_tensors`.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx

from ...architectures.config import ModelConfig
from ...architectures.encoder_config import EncoderConfig
from ...architectures.storage import Stored
from ...kernels.linear.fp8 import from_fp8
from ...kernels.linear.weight import Dense, Quantized, arrays_of, from_mxfp4_blocks
from ...kernels.registry import activation_dtype
from .checkpoint import Checkpoint, Header
from .weight_files import CheckpointError

if TYPE_CHECKING:
    from ..gguf.tensors import Source

FLOATS = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
PACKED = {"U32": mx.uint32}
BYTES = {"U8": mx.uint8}
FP8 = {"F8_E4M3": mx.uint8}
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U32": 4, "U8": 1, "F8_E4M3": 2}  # once loaded
MIN_COLUMNS = 32  # a row has a multiple of these: MLX and the kernels ask for that of nvfp4
# Mixers' last modules, whose inputs may be as many as the residual stream's.
OUTPUTS = frozenset({"o_proj", "out_proj", "dense"})
# A buffer that older exporters saved although it follows from the config.
HARMLESS = ".rotary_emb.inv_freq"


@dataclass(frozen=True, slots=True)
class Reading:
    """The way weights are read: `exact` as in linear.weight.Quantized; `check` refuses NaN.

    `fine`, as there, is for modules of which `pays_apart` says so. `progress` is called before each
    tensor.
    """

    exact: bool = False
    fine: bool = False
    check: bool = False
    progress: Callable[[], None] = lambda: None


PLAIN = Reading()


class TensorFiles:
    """The tensors of a checkpoint's files; MLX reads one when it is evaluated, none is held here.

    A file is opened once, and again only for what was taken from it before.
    """

    def __init__(self) -> None:
        self._tensors: dict[Path, dict[str, mx.array]] = {}

    def take(self, header: Header) -> mx.array:
        """Read a tensor, evaluated; raises CheckpointError."""
        if header.source is not None:
            return header.source.array()
        try:
            if header.name not in self._tensors.get(header.file, {}):
                loaded = mx.load(str(header.file), format="safetensors")
                assert isinstance(loaded, dict)
                self._tensors[header.file] = loaded
            array = self._tensors[header.file].pop(header.name)
            mx.eval(array)
        except RuntimeError as error:
            raise CheckpointError(f"{header.file} cannot be read by MLX: {error}") from None
        return array


class Weights:
    """A model's `Parameters`, from a checkpoint with renamed tensors; `finish` ends the loading."""

    def __init__(
        self, checkpoint: Checkpoint, config: ModelConfig | EncoderConfig, reading: Reading = PLAIN
    ) -> None:
        self.config = config
        self.exact = reading.exact
        self._fine = reading.fine
        self.bytes = 0
        self.dtype = activation_dtype(stored_dtype(checkpoint))
        self._check = reading.check
        self._progress = reading.progress
        self._headers = dict(checkpoint.tensors)
        self._path = checkpoint.path
        self._files = TensorFiles()
        self._entries = rename_entries(config)

    def has(self, name: str) -> bool:
        return name in self._headers

    def shape(self, name: str) -> tuple[int, ...]:
        return self._header(name).shape

    def vector(self, name: str, *shape: int, dtype: mx.Dtype | None = None) -> mx.array:
        vector = self._take(name, shape, FLOATS).astype(dtype or self.dtype)
        mx.eval(vector)
        return vector

    def stack(
        self, module: str, count: int, rows: int, columns: int, transposed: bool = False
    ) -> Dense | Quantized | None:
        if f"{module}_blocks" in self._headers:
            return self._refined(self._blocks(module, count, rows, columns), module, columns)
        if transposed and module in self._headers:
            return self._transposed(module, count, rows, columns)
        for name in (f"{module}.weight", module):  # transformers' stacks are no modules
            if name in self._headers:
                weight = self._read(module, name, (count, rows), columns)
                return self._refined(weight, module, columns)
        return None

    def matrix(self, module: str, rows: int, columns: int) -> Dense | Quantized:
        weight = self._read(module, f"{module}.weight", (rows,), columns)
        return self._refined(weight, module, columns)

    def _refined(self, weight: Dense | Quantized, module: str, columns: int) -> Dense | Quantized:
        fine = self._fine and pays_apart(self.config, module, columns)
        return replace(weight, fine=True) if fine and isinstance(weight, Quantized) else weight

    def refuse(self, module: str, why: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {module} {why}")

    def finish(self) -> None:
        """Refuse tensors that the model has no use for: they are another model's."""
        left = [name for name in self._headers if not is_unused(self.config, name)]
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise CheckpointError(
                f"{self._headers[left[0]].file} has the tensor {left[0]}{more}, "
                f"which {self.config.model_type} does not use as configured"
            )
        self._files = TensorFiles()

    def _read(
        self, module: str, name: str, rows: tuple[int, ...], columns: int
    ) -> Dense | Quantized:
        """Read a module's weight as it is stored; dimensions of rows become one."""
        header = self._headers.get(name)
        if header is not None and header.source is not None and header.source.in_blocks:
            return self._in_blocks(header, header.source, name, (*rows, columns))
        stored = self._stored(module, columns)
        if stored is not None:
            return self._quantized(module, stored, rows, columns)
        if f"{module}.weight_scale_inv" in self._headers:
            return self._fp8(module, rows[0], columns)
        return Dense(self._flat(name, (*rows, columns), FLOATS))

    def _quantized(
        self, module: str, stored: Stored, rows: tuple[int, ...], columns: int
    ) -> Quantized:
        group, bits = stored.group, stored.bits
        unit = max(group, MIN_COLUMNS)
        if columns % unit:
            raise CheckpointError(
                f"{self._path}: {module} has {columns} columns, quantized by {unit} at a time"
            )
        grouped = (*rows, columns // group)
        codes = self._flat(f"{module}.weight", (*rows, columns * bits // 32), PACKED)
        if stored.mode != "affine":
            scales = self._flat(f"{module}.scales", grouped, BYTES)
            return Quantized(codes, scales, None, group, bits, stored.mode, self.exact)
        scales, biases = (
            self._flat(f"{module}.{part}", grouped, FLOATS) for part in ("scales", "biases")
        )
        if scales.dtype != biases.dtype:  # kernels take them in one type, and float32 holds both
            scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
            mx.eval(scales, biases)
        return Quantized(codes, scales, biases, group, bits, exact=self.exact)

    def _in_blocks(
        self, header: Header, source: "Source", name: str, shape: tuple[int, ...]
    ) -> Quantized:
        """Read a GGUF file's quantized weight."""
        self._progress()
        del self._headers[name]
        self._check_shape(header, shape)
        weight = source.matrix(self.exact)
        self.bytes += sum(array.nbytes for array in arrays_of(weight))
        return weight

    def _fp8(self, module: str, rows: int, columns: int) -> Dense:
        """Read DeepSeek's 8-bit numbers, with a scale for each block of rows and columns."""
        block = self.config.quantization.block
        sizes = () if block is None else (-(-rows // block[0]), -(-columns // block[1]))
        codes = self._take(f"{module}.weight", (rows, columns), FP8)
        scales = self._take(f"{module}.weight_scale_inv", sizes, FLOATS)
        return Dense(from_fp8(codes, scales, block))

    def _transposed(self, name: str, count: int, rows: int, columns: int) -> Dense:
        array = self._take(name, (count, columns, rows), FLOATS).swapaxes(1, 2)
        array = mx.contiguous(array).reshape(count * rows, columns)
        mx.eval(array)
        return Dense(array)

    def _blocks(self, module: str, count: int, rows: int, columns: int) -> Quantized:
        """Read gpt-oss's experts as OpenAI published them: 16 bytes to 32 numbers."""
        groups = columns // 32
        blocks = self._take(f"{module}_blocks", (count, rows, groups, 16), BYTES)
        scales = self._take(f"{module}_scales", (count, rows, groups), BYTES)
        return replace(from_mxfp4_blocks(blocks, scales), exact=self.exact)

    def _stored(self, module: str, columns: int) -> Stored | None:
        """Decide as mlx_lm does: by the module's own entry, else by whether there are scales.

        Without an entry the default holds, or what another entry says, if only that fits: whoever
        splits and joins modules may have written entries by names that nobody asks for.
        """
        default = self.config.quantization.default
        if module in self._entries:
            return self._entries[module]
        if f"{module}.scales" not in self._headers:
            return None
        if default is None:
            file = self._headers[f"{module}.scales"].file
            raise CheckpointError(
                f"{file} has {module}.scales, but config.json says nothing of quantization"
            )
        known = dict.fromkeys([default, *filter(None, self._entries.values())])
        return next((each for each in known if self._fits(module, each, columns)), default)

    def _fits(self, module: str, stored: Stored, columns: int) -> bool:
        """Return whether a module's tensors are of this storage: no two have the same shapes."""
        weight, scales = self._header(f"{module}.weight"), self._header(f"{module}.scales")
        widths = (columns * stored.bits // 32, columns // stored.group)
        floating = scales.dtype in BYTES
        return (weight.shape[-1], scales.shape[-1]) == widths and floating == (
            stored.mode != "affine"
        )

    def _flat(self, name: str, shape: tuple[int, ...], dtypes: dict[str, mx.Dtype]) -> mx.array:
        array = self._take(name, shape, dtypes)
        if len(shape) > 2:
            array = array.reshape(-1, shape[-1])
            mx.eval(array)
        return array

    def _take(self, name: str, shape: tuple[int, ...], dtypes: dict[str, mx.Dtype]) -> mx.array:
        self._progress()
        header = self._header(name)
        del self._headers[name]
        where = f"{header.file}: {header.name}"
        if header.dtype not in dtypes:
            raise CheckpointError(f"{where} is {header.dtype}, expected {' or '.join(dtypes)}")
        self._check_shape(header, shape)
        array = self._files.take(header)
        self.bytes += array.nbytes
        if self._check and header.dtype in FLOATS and not mx.isfinite(array).all():
            raise CheckpointError(f"{where} holds NaN or infinity")
        return array

    def _check_shape(self, header: Header, shape: tuple[int, ...]) -> None:
        if header.shape != shape:
            raise CheckpointError(
                f"{header.file}: {header.name} has shape {header.shape}, where config.json implies "
                f"{shape}"
            )

    def _header(self, name: str) -> Header:
        if name not in self._headers:
            raise CheckpointError(f"{self._path} lacks the tensor {name}")
        return self._headers[name]


def pays_apart(config: ModelConfig | EncoderConfig, module: str, columns: int) -> bool:
    """Return whether the outliers among a module's inputs are worth a product of their own.

    The residual stream has them in the same few columns for all tokens, so rows share their cost,
    and what reads it makes nine tenths of what rounding costs SmolLM2. Other inputs, those of
    `OUTPUTS` among them, have theirs anywhere; of these the last feed-forward layer's count, for
    nothing after them evens them out.
    """
    if isinstance(config, EncoderConfig):
        return False
    names = config.blocks[-1].names
    last = f"{config.model}.layers.{config.layers - 1}.{names.feed_forward}."
    reads = columns == config.hidden_size and module.rpartition(".")[2] not in OUTPUTS
    return reads or module.startswith(last)


def is_unused(config: ModelConfig | EncoderConfig, name: str) -> bool:
    """Return whether a tensor, by the name that layers ask for, belongs to what is not run."""
    tied = isinstance(config, ModelConfig) and config.tied and name.startswith(f"{config.head}.")
    unused = any(re.match(pattern, name) for pattern in config.unused)
    return name.endswith(HARMLESS) or tied or unused


def rename_tensors(checkpoint: Checkpoint, config: ModelConfig | EncoderConfig) -> Checkpoint:
    """Return the checkpoint with its tensors by the names that the layers ask for."""
    tensors: dict[str, Header] = {}
    for header in checkpoint.tensors.values():
        name = _renamed(header.name, config)
        if name in tensors:
            raise CheckpointError(
                f"{header.file} has both {header.name} and {tensors[name].name}, "
                "which are one weight"
            )
        tensors[name] = header
    return replace(checkpoint, tensors=tensors)


def rename_entries(config: ModelConfig | EncoderConfig) -> dict[str, Stored | None]:
    """Return how modules are quantized by the names that the layers ask for.

    A config may have them by its tensors' names, by those that layers ask for, or by both.
    """
    entries = {m.removesuffix(".weight"): how for m, how in config.quantization.modules.items()}
    renamed = {
        _renamed(f"{module}.weight", config).removesuffix(".weight"): stored
        for module, stored in entries.items()
    }
    return renamed | entries


def _renamed(name: str, config: ModelConfig | EncoderConfig) -> str:
    for pattern, into in config.renames:
        name = re.sub(pattern, into, name)
    return name


def weight_bytes(checkpoint: Checkpoint, config: ModelConfig | EncoderConfig) -> int:
    """Count the bytes of a checkpoint's weights once they are loaded; its tensors are renamed."""
    return sum(
        math.prod(header.shape) * ITEM_BYTES.get(header.dtype, 4)
        if header.source is None
        else header.source.bytes
        for name, header in checkpoint.tensors.items()
        if not is_unused(config, name)
    )


def widening(checkpoint: Checkpoint) -> str | None:
    """Say in a sentence how much more a checkpoint takes than its file; None if it is little."""
    sources = [h.source for h in checkpoint.tensors.values() if h.source and h.source.is_widened]
    if not sources:
        return None
    types = sorted({source.tensor.type.name for source in sources})
    held, before = (sum(counts) for counts in zip(*map(_both_bytes, sources), strict=True))
    return (
        f"{checkpoint.path}: its numbers in {', '.join(types)} are held exactly, but in more bits: "
        f"{held / 1e9:.3g} GB, in the file {before / 1e9:.3g}"
    )


def _both_bytes(source: "Source") -> tuple[int, int]:
    return source.bytes, source.tensor.bytes


def stored_dtype(checkpoint: Checkpoint) -> mx.Dtype:
    """Return the floating dtype that most tensors have; scales of 8-bit floats do not count."""
    counts = Counter(
        header.dtype
        for header in checkpoint.tensors.values()
        if header.dtype in FLOATS and not header.name.endswith("_scale_inv")
    )
    if any(header.source and header.source.in_blocks for header in checkpoint.tensors.values()):
        return mx.bfloat16  # the type that models of these were trained in
    if not counts:
        raise CheckpointError(f"{checkpoint.path} has no tensor of {', '.join(FLOATS)}")
    return FLOATS[max(counts, key=counts.__getitem__)]
