"""The model under test in the forms that contestants take: MLX's, GGUF's, other dtypes."""

from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.models.cost import ModelCost, cost
from bessemer.bench.models.gguf_file import gguf_file
from bessemer.bench.models.shapes import ModelShape
from bessemer.bench.models.synthetic import Storage, checkpoint
from bessemer.engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from bessemer.engine.checkpoint.json_files import is_gguf
from bessemer.engine.checkpoint.weight_files import CheckpointError


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A checkpoint directory; `shape` and `storage` if its weights are random ones."""

    name: str
    path: Path
    cost: ModelCost
    stored: str
    shape: ModelShape | None = None
    storage: Storage = field(default_factory=Storage)
    seed: int = 0
    gguf_path: Path | None = None
    head: str = ""

    @property
    def mark(self) -> str:
        return self.shape.mark if self.shape else ""

    @property
    def gguf_remark(self) -> str:
        if self.gguf_path == self.path:
            return "the same file"
        if self.gguf_path is not None:
            return "another file, named with --gguf"
        return f"{self.head} head" if self.head else "the same weights"

    @property
    def float32_bytes(self) -> int:
        """The size of all weights when what is not packed becomes float32."""
        return sum(4 * prod(each.shape) for each in open_checkpoint(self.path).tensors.values())

    def gguf(self) -> Path:
        if self.gguf_path is not None:
            return self.gguf_path
        if self.shape is None:
            raise Unavailable(
                f"llama.cpp needs {self.name} as a GGUF file: name one with --gguf, "
                "or use --shape, whose weights are written in both forms"
            )
        return gguf_file(self.shape, self.storage, self.path, self.head)

    def variant(self, weights: str) -> Path | None:
        """Return the directory of the same shape in another form, if there can be one."""
        if weights == "stored" or (not self.storage.bits and self.storage.dtype == "float32"):
            return self.path
        if self.shape is None:
            return None
        bits = 0 if weights == "dense" else self.storage.bits
        other = replace(self.storage, bits=bits, dtype="float32")
        return checkpoint(self.shape, other, self.seed)


def synthetic(shape: ModelShape, storage: Storage, seed: int, head: str) -> BenchModel:
    path = checkpoint(shape, storage, seed)
    return BenchModel(
        shape.name,
        path,
        cost(path),
        f"random weights, {storage}",
        shape,
        storage,
        seed,
        head=head,
    )


def real(name: str, path: Path, gguf_path: Path | None) -> BenchModel:
    try:
        opened = open_checkpoint(path)
        model_cost = cost(path)
    except (CheckpointError, KeyError, TypeError) as error:
        raise Unavailable(f"{name} is no checkpoint that can be measured: {error}") from None
    if is_gguf(path) and gguf_path is None:
        gguf_path = path
    return BenchModel(name, path, model_cost, _storage(opened), gguf_path=gguf_path)


def _storage(checkpoint: Checkpoint) -> str:
    """Return how the weights are stored, of a GGUF file by its types."""
    types = {each.dtype for each in checkpoint.tensors.values() if each.source is not None}
    if types:
        return f"GGUF: {', '.join(sorted(types))}"
    quantization = checkpoint.config.get("quantization") or {}
    bits = quantization.get("bits")
    return f"{bits} bits, groups of {quantization.get('group_size')}" if bits else "dense"
