"""The tensors of a checkpoint by mlx_lm's names and in its layout, each read when it is needed."""

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
from .weights import FLOATS, Files, is_unused

SCALES = "_scale_inv"  # after the name of a weight in 8-bit floats
GATE_UP = ("gate_proj", "up_proj")

Read = Callable[[], mx.array]
Change = Callable[[mx.array], mx.array]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One of the new checkpoint, of the shape that each of `reads` gives; several are stacked.

    `stored`: it belongs to a module that the source has quantized, so.
    """

    name: str
    shape: Shape
    floating: bool
    reads: tuple[Read, ...]
    stored: Stored | None = None

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def is_matrix(self) -> bool:
        """Of a module whose weight mlx_lm can quantize: a matrix, or a stack of them."""
        stacked = len(self.shape) == 3 and self.shape[1] > 1 and self.shape[2] > 1
        return self.floating and self.name.endswith(".weight") and (len(self.shape) == 2 or stacked)


class Source:
    """The tensors of a checkpoint, which has them by the names that layers ask for.

    8-bit floats come out as bfloat16. What the model has no use for is left out.
    """

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig) -> None:
        self.config = config
        self._found = checkpoint.tensors
        self._files = Files()

    def names(self) -> list[str]:
        """In the order of layers and experts."""
        wanted = re.compile(self.config.mlx_lm.unused)
        names = [
            name
            for name in self._found
            if not name.endswith(SCALES)
            and (wanted.match(name) or not is_unused(self.config, name))
        ]
        return sorted(names, key=_natural)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def shape(self, name: str) -> Shape:
        return self._found[name].shape

    def tensor(
        self, name: str, old: str, shape: Shape | None = None, change: Change | None = None
    ) -> Tensor:
        """`name` in place of `old`, of which `change` makes another of this shape."""
        floating = self._found[old].dtype in FLOATS or f"{old}{SCALES}" in self
        read = partial(self.read, old, change)
        return Tensor(name, self.shape(old) if shape is None else shape, floating, (read,))

    def read(self, name: str, change: Change | None) -> mx.array:
        array = self._files.take(self._found[name])
        if f"{name}{SCALES}" in self:
            scales = self._files.take(self._found[f"{name}{SCALES}"])
            array = from_fp8(array, scales, self.config.quantization.block)
        return array if change is None else mx.contiguous(change(array))


def tensors(source: Source) -> list[Tensor]:
    """All of the new checkpoint; experts that are apart in the source are one of them."""
    found: dict[str, Tensor] = {}
    for old in source.names():
        for each in _arranged(source, old):
            if each.name in found:
                each = replace(each, reads=found[each.name].reads + each.reads)
            found[each.name] = each
    return list(found.values())


def _arranged(source: Source, old: str) -> Iterator[Tensor]:
    rules = ((pattern, ARRANGEMENTS[how]) for pattern, how in source.config.mlx_lm.rules)
    for pattern, arrange in (*RULES, *rules):
        match = re.fullmatch(pattern, old)
        if match:
            return arrange(source, match)
    return iter([source.tensor(old, old)])


def _natural(name: str) -> list[tuple[int, str]]:
    """Expert 10 after expert 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _name(source: Source, found: re.Match[str], module: str, part: str) -> str:
    """Of an expert's part, or of all experts'."""
    return f"{found[1]}.{source.config.mlx_lm.experts}.{module}.{part}"


def _moved(source: Source, found: re.Match[str], part: str) -> Iterator[Tensor]:
    """One of many experts, by number, or the biases of all."""
    yield source.tensor(_name(source, found, found[2], part), found[0])


def _stack(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """All experts of a layer in one tensor."""
    old, name = found[0], _name(source, found, found[2], "weight")
    count, rows, columns = source.shape(old)
    if _turned(source, old):
        yield source.tensor(name, old, (count, columns, rows), _swapped)
    else:
        yield source.tensor(name, old)


def _joint(source: Source, found: re.Match[str], part: str) -> Iterator[Tensor]:
    """The same, with a gate and an up projection in each matrix or bias."""
    old, shape = found[0], source.shape(found[0])
    turned = _turned(source, old)
    count, rows, *columns = (shape[0], shape[2], shape[1]) if turned else shape
    for half, module in zip(_own(source).halves, GATE_UP, strict=True):
        change = partial(_half, half=half, turned=turned)
        name = _name(source, found, module, part)
        yield source.tensor(name, old, (count, rows // 2, *columns), change)


def _blocks(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """gpt-oss's experts as OpenAI published them: their codes and scales stay as they are."""
    old, is_weight = found[0], found[3] == "blocks"
    count, rows, groups = source.shape(old)[:3]
    columns, part = (groups * 4, "weight") if is_weight else (groups, "scales")
    slices = {found[2]: slice(None)}
    if found[2] == "gate_up_proj":
        slices = dict(zip(GATE_UP, _own(source).halves, strict=True))
    for module, half in slices.items():
        name, shape = _name(source, found, module, part), (count, rows // len(slices), columns)
        change = partial(_words if is_weight else _half, half=half)
        yield replace(source.tensor(name, old, shape, change), stored=Stored(32, 4, "mxfp4"))


def _gate_up(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """A feed-forward layer whose gate lies above its up projection, where mlx_lm has two."""
    rows, columns = source.shape(found[0])
    halves = (slice(rows // 2), slice(rows // 2, None))
    for half, module in zip(halves, GATE_UP, strict=True):
        name = f"{found[1]}.{module}.weight"
        yield source.tensor(name, found[0], (rows // 2, columns), itemgetter(half))


def _latent(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """What expands a latent, as mlx_lm takes it apart: by head, with the keys' part turned."""
    own = next(b.mixer for b in source.config.blocks if isinstance(b.mixer, LatentConfig))
    keys, values = (own.heads, own.rank, own.nope_dim), (own.heads, own.value_dim, own.rank)
    for name, shape in {"embed_q": keys, "unembed_out": values}.items():
        change = partial(_heads, own=own, keys=name == "embed_q")
        yield source.tensor(f"{found[1]}.{name}.weight", found[0], shape, change)


def _convolution(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """Turned here, where mlx_lm does so only if experts are apart."""
    old = found[0]
    channels, one, width = source.shape(old)
    change = (None, None) if width == 1 else ((channels, width, one), _swapped)
    yield source.tensor(old, old, *change)


def _norm(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """Stored less 1, unless a convolution shows that it has been added."""
    old, norm = found[0], source.config.norm
    less = norm.conversion_mark is not None and source.shape(norm.conversion_mark)[2:] != (1,)
    yield source.tensor(old, old, change=_more if less else None)


Arrange = Callable[[Source, "re.Match[str]"], Iterator[Tensor]]
# Of a name in the source, all of it, in any family: what becomes of it. The first that matches
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


def _own(source: Source) -> MoeConfig:
    return next(block.experts for block in source.config.blocks if block.experts is not None)


def _turned(source: Source, name: str) -> bool:
    """Whether inputs come before outputs; they do not in modules and biases."""
    return _own(source).transposed and not name.endswith((".weight", "bias"))


def _half(array: mx.array, half: slice, turned: bool = False) -> mx.array:
    return array[:, :, half].swapaxes(1, 2) if turned else array[:, half]


def _words(array: mx.array, half: slice) -> mx.array:
    """Of 16 bytes to 32 numbers."""
    return mx.contiguous(array[:, half]).view(mx.uint32).flatten(-2)


def _swapped(array: mx.array) -> mx.array:
    return array.swapaxes(1, 2)


def _more(array: mx.array) -> mx.array:
    return array + 1


def _heads(array: mx.array, own: LatentConfig, keys: bool) -> mx.array:
    both = array.reshape(own.heads, own.nope_dim + own.value_dim, own.rank)
    return both[:, : own.nope_dim].swapaxes(1, 2) if keys else both[:, own.nope_dim :]
