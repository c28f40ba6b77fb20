"""Random weights of any shape as an MLX checkpoint: training changes neither speed nor memory.

Matrices have the spread that keeps activations finite through any number of layers. They are
written tensor by tensor, so that memory stays small, and follow from the seed and their names.
"""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.models.shapes import ModelShape, TensorSpec, tensors
from bessemer.http.hub import BUILT_IN

Array = NDArray[Any]
BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)
Dtype = Literal["float32", "float16", "bfloat16"]
DTYPES = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}
CHUNK = 1 << 24  # values drawn at a time
EMBEDDING_SPREAD = 0.02  # the spread of embeddings
VERSION = 2  # of what is written: another one leaves older caches unread


@dataclass(frozen=True, slots=True)
class Storage:
    """The storage of weights; 0 bits is dense. Scales, biases and norms have the dtype."""

    bits: int = 4
    group: int = 64
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.bits and self.bits not in BITS:
            raise Unavailable(f"--bits is {self.bits}, but must be one of {BITS}")
        if self.group not in GROUPS:
            raise Unavailable(f"--group is {self.group}, but must be one of {GROUPS}")
        if self.dtype not in DTYPES:
            raise Unavailable(f"--dtype is {self.dtype!r}, but must be one of {', '.join(DTYPES)}")

    def __str__(self) -> str:
        scales = "" if self.dtype == "bfloat16" else f"-{self.dtype}"
        return f"{self.bits}bit-g{self.group}{scales}" if self.bits else self.dtype

    def quantizes(self, tensor: TensorSpec) -> bool:
        return bool(self.bits) and tensor.kind in ("matrix", "embedding")


@dataclass(frozen=True, slots=True)
class FileArray:
    """One array of the file: its header, and how its bytes come about."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[Array]]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * (2 if self.dtype in ("F16", "BF16") else 4)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):
        raise Unavailable("there is no home directory for models; set HOME or XDG_CACHE_HOME")
    return Path(base) / "bessemer" / "bench"


def checkpoint(shape: ModelShape, storage: Storage, seed: int, folder: Path | None = None) -> Path:
    """Return the directory of this model, written if it is not there yet."""
    layers = f"-{shape.layers}of{shape.published_layers}" if shape.mark else ""
    name = f"{shape.name}{layers}-{storage}-seed{seed}-v{VERSION}"
    target = (folder or cache_folder()) / "models" / name
    if not target.exists():
        with replacing(target) as scratch:
            write(scratch, shape, storage, seed)
    return target


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a directory beside the target, which takes its name in one step once it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".making-"))
    try:
        yield scratch
        scratch.chmod(0o755)
        scratch.rename(target)
    except FileExistsError:
        pass  # another process was quicker, with the same content
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write(
    folder: Path, shape: ModelShape, storage: Storage, seed: int, hollow: bool = False
) -> None:
    """Write a checkpoint; a `hollow` one has a hole where weights would be, which takes no disk."""
    write_tokenizer(folder, int(shape.config["vocab_size"]))
    _json(folder / "config.json", config(shape, storage))
    parts = [part for tensor in tensors(shape.config) for part in _parts(tensor, storage, seed)]
    write_safetensors(folder / "model.safetensors", parts, hollow)


def config(shape: ModelShape, storage: Storage) -> dict[str, Any]:
    fields = {
        "torch_dtype": storage.dtype,
        "hidden_act": "silu",
        "attention_bias": False,
        "eos_token_id": 2,
        **shape.config,
    }
    if "kv_lora_rank" in fields:
        fields.setdefault("q_lora_rank", None)  # readers take another default where it is missing
    if storage.bits:
        fields["quantization"] = {"group_size": storage.group, "bits": storage.bits}
    return fields


def write_safetensors(path: Path, parts: list[FileArray], hollow: bool = False) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for part in parts:
        start, end = end, end + part.nbytes
        entry = {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [start, end]}
        header[part.name] = entry
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if hollow:
            file.truncate(file.tell() + end)
        for part in () if hollow else parts:
            for chunk in part.chunks():
                file.write(np.ascontiguousarray(chunk).data)


def _parts(tensor: TensorSpec, storage: Storage, seed: int) -> Iterator[FileArray]:
    name = f"{tensor.name}.{'bias' if tensor.kind == 'bias' else 'weight'}"
    dtype = DTYPES[storage.dtype][0]
    if not storage.quantizes(tensor):
        yield FileArray(name, dtype, tensor.shape, partial(_dense, tensor, name, storage, seed))
        return
    *rows, columns = tensor.shape
    if columns % storage.group:
        raise Unavailable(
            f"{tensor.name} has {columns} columns, which groups of {storage.group} do not divide"
        )
    packed = (*rows, columns * storage.bits // 32)
    grouped = (*rows, columns // storage.group)
    yield FileArray(name, "U32", packed, partial(_packed, prod(packed), name, seed))
    for kind in ("scales", "biases"):
        chunks = partial(_scales, tensor, kind, storage, seed)
        yield FileArray(f"{tensor.name}.{kind}", dtype, grouped, chunks)


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))


def _packed(count: int, name: str, seed: int) -> Iterator[Array]:
    random = _generator(seed, name)
    for start in range(0, count, CHUNK):
        yield random.integers(0, 1 << 32, min(CHUNK, count - start), np.uint32)


def _scales(tensor: TensorSpec, kind: str, storage: Storage, seed: int) -> Iterator[Array]:
    """Draw scales of either sign, so that levels which are not centred do not add up over a row.

    With biases of minus half the levels a weight is scale * (q - half): what Q4_0 and Q8_0 hold.
    """
    random = _generator(seed, f"{tensor.name}.scales")
    count = tensor.size // storage.group
    levels = float(2**storage.bits)
    middle = spread(tensor) / sqrt((levels**2 - 1) / 12)
    for start in range(0, count, CHUNK):
        number = min(CHUNK, count - start)
        sizes = random.uniform(0.75 * middle, 1.25 * middle, number).astype(np.float32)
        signed = sizes * random.choice(np.array([-1, 1], np.float32), number)
        scales = as_float32(stored(signed, storage.dtype), storage.dtype)
        yield stored(scales if kind == "scales" else scales * -levels / 2, storage.dtype)


def _dense(tensor: TensorSpec, name: str, storage: Storage, seed: int) -> Iterator[Array]:
    random = _generator(seed, name)
    bound = 0.0 if tensor.kind == "norm" else spread(tensor) * sqrt(3)
    for start in range(0, tensor.size, CHUNK):
        number = min(CHUNK, tensor.size - start)
        values = (random.random(number, np.float32) * 2 - 1) * np.float32(bound)
        yield stored(values + (1 if tensor.kind == "norm" else 0), storage.dtype)


def spread(tensor: TensorSpec) -> float:
    """Return the standard deviation: a matrix's keeps the size of a vector as it is."""
    if tensor.kind in ("embedding", "bias"):
        return EMBEDDING_SPREAD
    return 1 / sqrt(tensor.shape[-1])


def stored(values: Array, dtype: str) -> Array:
    """Return the values in the dtype's bits; numpy has no bfloat16."""
    if dtype != "bfloat16":
        return values.astype(dtype)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def as_float32(values: Array, dtype: str) -> Array:
    if dtype != "bfloat16":
        return values.astype(np.float32)
    return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def write_tokenizer(folder: Path, size: int) -> None:
    """Write the built-in model's tokenizer, filled up to a vocabulary of this size."""
    tokenizer = json.loads((BUILT_IN / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    if size < len(vocabulary):
        raise Unavailable(f"a vocabulary of {size} is smaller than the tokenizer's own words")
    vocabulary.update({f"word{number}": number for number in range(len(vocabulary), size)})
    _json(folder / "tokenizer.json", tokenizer)
    settings = json.loads((BUILT_IN / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["model_max_length"] = 131072
    _json(folder / "tokenizer_config.json", settings)


def _json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
