"""What a model's files say of it without being loaded: size, parameters, quantization, family."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ..engine.checkpoint.json_files import is_gguf
from ..engine.checkpoint.weight_files import weight_files
from ..engine.embedding.sentence_transformers import describe
from ..engine.gguf.container import opened

# config.json's names of a size, each below a family's name as GGUF has it.
SIZES: Mapping[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings", "n_positions", "max_seq_len"),
    "embedding_length": ("hidden_size", "n_embd", "d_model"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "vocab_size": ("vocab_size",),
}
PACKED = "U32"  # the type of what MLX has quantized, beside its scales
LARGEST = 2**28  # bytes of a safetensors header
VERSION = version("bessemer")
LENGTH = 8  # bytes that say how long it is


class About(Struct, frozen=True):
    """A model by its files: `size` in bytes, `modified` in Unix seconds, values in `parameters`.

    `digest` tells one state of the files from another: by names, sizes and times, not contents.
    """

    format: str
    family: str
    quantization: str
    parameters: int
    size: int
    digest: str
    modified: float
    file: str  # its name, or its directory's
    sizes: Mapping[str, int]  # of its layers, by GGUF's names

    @property
    def fingerprint(self) -> str:
        """What tells answers of these files, and of this version, from those of others."""
        return f"bessemer-{VERSION}-{self.digest[:12]}"


class _Tensor(Struct, frozen=True):
    dtype: str
    shape: list[int]


def about(path: Path) -> About:
    """Read what the files say; raises CheckpointError or DescriptionError."""
    described = describe(path)
    config = described.config or {}
    config = {**config, **(config.get("text_config") or {})}
    files = weight_files(described.modules.backbone).files
    stats = [file.stat() for file in files]
    types: Counter[str] = Counter()
    for kind, values in _gguf_tensors(path) if is_gguf(path) else _tensors(files, config):
        types[kind] += values
    told = [f"{f.name} {s.st_size} {s.st_mtime_ns}" for f, s in zip(files, stats, strict=True)]
    return About(
        format="gguf" if is_gguf(path) else "safetensors",
        family=str(config.get("model_type", "")),
        quantization=types.most_common(1)[0][0] if types else "",
        parameters=types.total(),
        size=sum(stat.st_size for stat in stats),
        digest=hashlib.sha256("\n".join(told).encode()).hexdigest(),
        modified=max((stat.st_mtime for stat in stats), default=0.0),
        file=path.name,
        sizes=dict(_sizes(config)),
    )


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, theirs in SIZES.items():
        value = next((config[each] for each in theirs if config.get(each)), None)
        if isinstance(value, int):
            yield name, value


def _gguf_tensors(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the type of each tensor, and how many values it has."""
    for tensor in opened(path).tensors.values():
        yield tensor.type.name, math.prod(tensor.shape)


def _tensors(files: tuple[Path, ...], config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the same of safetensors; what MLX has packed counts as what it was made from."""
    quantization = config.get("quantization") or {}
    group, bits = quantization.get("group_size") or 64, quantization.get("bits") or 4
    tensors = {name: each for file in files for name, each in _header(file).items()}
    for name, tensor in tensors.items():
        stem = name.removesuffix("weight")
        scales = tensors.get(f"{stem}scales")
        if tensor.dtype == PACKED and scales is not None:
            yield f"{bits}-bit", math.prod(scales.shape) * group
        elif f"{name.rpartition('.')[0]}.scales" not in tensors:
            yield tensor.dtype, math.prod(tensor.shape)


def _header(file: Path) -> dict[str, _Tensor]:
    with file.open("rb") as opened_file:
        length = int.from_bytes(opened_file.read(LENGTH), "little")
        header = msgspec.json.decode(opened_file.read(min(length, LARGEST)), type=dict[str, Any])
    header.pop("__metadata__", None)
    return msgspec.convert(header, dict[str, _Tensor])


def in_words(parameters: int) -> str:
    """Return a number of parameters as Ollama writes it: 134.52M, 1.7B."""
    for unit, size, digits in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 0)):
        if parameters >= size:
            return f"{parameters / size:.{digits}f}{unit}"
    return str(parameters)
