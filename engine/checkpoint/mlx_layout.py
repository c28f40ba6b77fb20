"""A checkpoint's tensors by mlx_lm's names and in its layout, each read when it is needed."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from types import MappingProxyType

import mlx.core as mx

from ...architectures.config import LatentConfig, ModelConfig
from ...architectures.feed_forward_config import MoeConfig
from ...architectures.storage import Arrangement, Stored
from ...kernels.linear.fp8 import from_fp8
from .checkpoint import Checkpoint
from .weights import FLOATS, TensorFiles, is_unused

SCALES = "_scale_inv"  # after the name of a weight in 8-bit floats
GATE_UP = ("gate_proj", "up_proj")

Read = Callable[[], mx.array]
Change = Callable[[mx.array], mx.array]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MlxTensor:
    """A tensor of the new checkpoint; several `reads`, of `shape` each, are stacked.

    `stored` says how the source has its module quantized, if it has; `old` is the tensor's name
    there, and `by_rows` says that rows of it are what became of rows.
    """

    name: str
    shape: Shape
    floating: bool
    reads: tuple[Read, ...]
    stored: Stored | None = None
    old: str = ""
    by_rows: bool = True

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def is_matrix(self) -> bool:
        """True if mlx_lm can quantize it: the weight of a module, a matrix or a stack of them."""
        stacked = len(self.shape) == 3 and self.shape[1] > 1 and self.shape[2] > 1
        return self.floating and self.name.endswith(".weight") and (len(self.shape) == 2 or stacked)


class SourceCheckpoint:
    """The checkpoint to be converted, its tensors by the names that layers ask for.

    8-bit floats come out as bfloat16. Tensors that the model has no use for are left out.
    """

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig) -> None:
        self.config = config
        self._tensors = checkpoint.tensors
        self._files = TensorFiles()

    def names(self) -> list[str]:
        """List the tensors in the order of layers and experts."""
        included = re.compile(self.config.mlx_lm.unused)
        names = [
            name
            for name in self._tensors
            if not name.endswith(SCALES)
            and (included.match(name) or not is_unused(self.config, name))
        ]
        return sorted(names, key=_natural)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> Shape:
        return self._tensors[name].shape

    def tensor(
        self, name: str, old: str, shape: Shape | None = None, change: Change | None = None
    ) -> MlxTensor:
        """Return a tensor `name` in place of `old`, which `change` turns into one of this shape."""
        floating = self._tensors[old].dtype in FLOATS or f"{old}{SCALES}" in self
        read = partial(self.read, old, change)
        shape = self.shape(old) if shape is None else shape
        return MlxTensor(name, shape, floating, (read,), old=old)

    def read(self, name: str, change: Change | None) -> mx.array:
        array = self._files.take(self._tensors[name])
        if f"{name}{SCALES}" in self:
            scales = self._files.take(self._tensors[f"{name}{SCALES}"])
            array = from_fp8(array, scales, self.config.quantization.block)
        return array if change is None else mx.contiguous(change(array))


def mlx_tensors(source: SourceCheckpoint) -> list[MlxTensor]:
    """List the tensors of the new checkpoint; experts that are apart in the source are stacked."""
    tensors: dict[str, MlxTensor] = {}
    for old in source.names():
        for each in _arranged(source, old):
            if each.name in tensors:
                each = replace(each, reads=tensors[each.name].reads + each.reads)
            tensors[each.name] = each
    return list(tensors.values())


def _arranged(source: SourceCheckpoint, old: str) -> Iterator[MlxTensor]:
    rules = ((pattern, ARRANGEMENTS[how]) for pattern, how in source.config.mlx_lm.rules)
    for pattern, arrange in (*RULES, *rules):
        match = re.fullmatch(pattern, old)
        if match:
            return arrange(source, match)
    return iter([source.tensor(old, old)])


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts expert 10 after expert 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _name(source: SourceCheckpoint, match: re.Match[str], module: str, part: str) -> str:
    """Return mlx_lm's name for a part of the experts."""
    return f"{match[1]}.{source.config.mlx_lm.experts}.{module}.{part}"


def _moved(source: SourceCheckpoint, match: re.Match[str], part: str) -> Iterator[MlxTensor]:
    """Move one of many experts, by number, or the biases of all."""
    yield source.tensor(_name(source, match, match[2], part), match[0])


def _stack(source: SourceCheckpoint, match: re.Match[str]) -> Iterator[MlxTensor]:
    """Move all experts of a layer that are in one tensor."""
    old, name = match[0], _name(source, match, match[2], "weight")
    count, rows, columns = source.shape(old)
    if _transposed(source, old):
        yield source.tensor(name, old, (count, columns, rows), _swapped)
    else:
        yield source.tensor(name, old)


def _joint(source: SourceCheckpoint, match: re.Match[str], part: str) -> Iterator[MlxTensor]:
    """Split all experts of a layer, with gate and up projection in each matrix or bias."""
    old, shape = match[0], source.shape(match[0])
    transposed = _transposed(source, old)
    count, rows, *columns = (shape[0], shape[2], shape[1]) if transposed else shape
    for half, module in zip(_moe(source).halves, GATE_UP, strict=True):
        change = partial(_half, half=half, transposed=transposed)
        name = _name(source, match, module, part)
        yield source.tensor(name, old, (count, rows // 2, *columns), change)


def _blocks(source: SourceCheckpoint, match: re.Match[str]) -> Iterator[MlxTensor]:
    """Arrange gpt-oss's experts as OpenAI published them; codes and scales stay as they are."""
    old, is_weight = match[0], match[3] == "blocks"
    count, rows, groups = source.shape(old)[:3]
    columns, part = (groups * 4, "weight") if is_weight else (groups, "scales")
    slices = {match[2]: slice(None)}
    if match[2] == "gate_up_proj":
        slices = dict(zip(GATE_UP, _moe(source).halves, strict=True))
    for module, half in slices.items():
        name, shape = _name(source, match, module, part), (count, rows // len(slices), columns)
        change = partial(_words if is_weight else _half, half=half)
        yield replace(source.tensor(name, old, shape, change), stored=Stored(32, 4, "mxfp4"))


def _gate_up(source: SourceCheckpoint, match: re.Match[str]) -> Iterator[MlxTensor]:
    """Split a feed-forward layer whose gate lies above its up projection; mlx_lm has two."""
    rows, columns = source.shape(match[0])
    halves = (slice(rows // 2), slice(rows // 2, None))
    for half, module in zip(halves, GATE_UP, strict=True):
        name = f"{match[1]}.{module}.weight"
        yield source.tensor(name, match[0], (rows // 2, columns), itemgetter(half))


def _latent(source: SourceCheckpoint, match: re.Match[str]) -> Iterator[MlxTensor]:
    """Split a latent's expansion as mlx_lm does: by head, with the keys' part transposed."""
    latent = next(b.mixer for b in source.config.blocks if isinstance(b.mixer, LatentConfig))
    heads, rank = latent.heads, latent.rank
    keys, values = (heads, rank, latent.nope_dim), (heads, latent.value_dim, rank)
    for name, shape in {"embed_q": keys, "unembed_out": values}.items():
        change = partial(_heads, latent=latent, keys=name == "embed_q")
        part = source.tensor(f"{match[1]}.{name}.weight", match[0], shape, change)
        yield replace(part, by_rows=name != "embed_q")


def _convolution(source: SourceCheckpoint, match: re.Match[str]) -> Iterator[MlxTensor]:
    """Transpose a convolution, as mlx_lm itself does only where experts are apart."""
    old = match[0]
    channels, one, width = source.shape(old)
    change = (None, None) if width == 1 else ((channels, width, one), _swapped)
    yield source.tensor(old, old, *change)


def _norm(source: SourceCheckpoint, match: re.Match[str]) -> Iterator[MlxTensor]:
    """Add 1 to a norm that is stored less 1; a convolution shows whether it is."""
    old, norm = match[0], source.config.norm
    less = norm.conversion_mark is not None and source.shape(norm.conversion_mark)[2:] != (1,)
    yield source.tensor(old, old, change=(lambda array: array + 1) if less else None)


Arrange = Callable[[SourceCheckpoint, "re.Match[str]"], Iterator[MlxTensor]]
# The arrangement of a tensor whose whole name matches, in any family. The first that matches
# counts; a family's own rules come after these.
RULES: tuple[tuple[str, Arrange], ...] = (
    (r"(.+)\.experts\.\d+\.(\w+)\.weight", partial(_moved, part="weight")),
    (r"(.+)\.experts\.gate_up_proj(\.weight)?", partial(_joint, part="weight")),
    (r"(.+)\.experts\.gate_up_proj_bias", partial(_joint, part="bias")),
    (r"(.+)\.experts\.(\w+)_(blocks|scales)", _blocks),
    (r"(.+)\.experts\.(\w+)_bias", partial(_moved, part="bias")),
    (r"(.+)\.experts\.(\w+?)(\.weight)?", _stack),
)
ARRANGEMENTS: Mapping[Arrangement, Arrange] = MappingProxyType(
    {"latent": _latent, "gate_up": _gate_up, "convolution": _convolution, "norm": _norm}
)


def _moe(source: SourceCheckpoint) -> MoeConfig:
    return next(block.experts for block in source.config.blocks if block.experts is not None)


def _transposed(source: SourceCheckpoint, name: str) -> bool:
    """Return whether inputs come before outputs; they do not in modules and biases."""
    return _moe(source).transposed and not name.endswith((".weight", "bias"))


def _half(array: mx.array, half: slice, transposed: bool = False) -> mx.array:
    return array[:, :, half].swapaxes(1, 2) if transposed else array[:, half]


def _words(array: mx.array, half: slice) -> mx.array:
    """View 16 bytes to 32 numbers as words."""
    return mx.contiguous(array[:, half]).view(mx.uint32).flatten(-2)


def _swapped(array: mx.array) -> mx.array:
    return array.swapaxes(1, 2)


def _heads(array: mx.array, latent: LatentConfig, keys: bool) -> mx.array:
    both = array.reshape(latent.heads, latent.nope_dim + latent.value_dim, -1)
    return both[:, : latent.nope_dim].swapaxes(1, 2) if keys else both[:, latent.nope_dim :]
