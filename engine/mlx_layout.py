"""The tensors of a checkpoint by mlx_lm's names and in its layout, each read when it is needed."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import mlx.core as mx

from ..architectures.config import BothConfig, LatentConfig, ModelConfig, MoeConfig, Stored
from ..kernels.fp8 import from_fp8
from .checkpoint import Checkpoint, CheckpointError, Header
from .weights import FLOATS, is_unused, named

SCALES = "_scale_inv"  # after the name of a weight in 8-bit floats
# Where mlx_lm has experts, below the module that has them.
EXPERTS: Mapping[str, str] = MappingProxyType(
    {
        "gemma4": "experts.switch_glu",
        "gemma4_text": "experts.switch_glu",
        "gpt_oss": "experts",
    }
)
# What mlx_lm wants although nothing is computed from it: keys and values that are borrowed.
WANTED: Mapping[str, str] = MappingProxyType({"gemma3n": r"model\.language_model\."})

Read = Callable[[], mx.array]
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
    """The tensors of a checkpoint by the names that layers ask for.

    8-bit floats come out as bfloat16. What the model has no use for is left out.
    """

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig) -> None:
        self.config = config
        self._found = named(checkpoint, config)
        self._files: dict[Path, dict[str, mx.array]] = {}

    def names(self) -> list[str]:
        """In the order of layers and experts."""
        wanted = re.compile(WANTED.get(self.config.model_type, r"\Z."))
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
        return self._found[name][1].shape

    def tensor(self, name: str, old: str, shape: Shape, read: Read) -> Tensor:
        """`name` in place of `old`."""
        floating = self._found[old][1].dtype in FLOATS or f"{old}{SCALES}" in self
        return Tensor(name, shape, floating, (read,))

    def read(self, name: str) -> mx.array:
        array = self._load(*self._found[name])
        if f"{name}{SCALES}" not in self:
            return array
        scales = self._load(*self._found[f"{name}{SCALES}"])
        return from_fp8(array, scales, self.config.quantization.block)

    def _load(self, name: str, header: Header) -> mx.array:
        """MLX reads an array when it is evaluated; what is handed out is not held here."""
        try:
            if name not in self._files.get(header.file, {}):
                loaded = mx.load(str(header.file), format="safetensors")
                assert isinstance(loaded, dict)
                self._files[header.file] = loaded
            array = self._files[header.file].pop(name)
            mx.eval(array)
        except RuntimeError as error:
            raise CheckpointError(f"{header.file} cannot be read by MLX: {error}") from None
        return array


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
    for pattern, families, arrange in RULES:
        match = re.fullmatch(pattern, old)
        if match and source.config.model_type in (families or (source.config.model_type,)):
            return arrange(source, match)
    return iter([source.tensor(old, old, source.shape(old), partial(source.read, old))])


def _natural(name: str) -> list[tuple[int, str]]:
    """Expert 10 after expert 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _expert(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """One of many, by number."""
    old = found[0]
    name = f"{found[1]}.{_place(source)}.{found[2]}.weight"
    yield source.tensor(name, old, source.shape(old), partial(source.read, old))


def _stack(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """All experts of a layer in one tensor."""
    old = found[0]
    name = f"{found[1]}.{_place(source)}.{found[2]}.weight"
    count, rows, columns = source.shape(old)
    if not _turned(source, old):
        yield source.tensor(name, old, (count, rows, columns), partial(source.read, old))
        return
    yield source.tensor(name, old, (count, columns, rows), partial(_turn, source, old))


def _joint(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """The same, with a gate and an up projection in each matrix."""
    old, experts = found[0], f"{found[1]}.{_place(source)}"
    count, rows, columns = source.shape(old)
    turned = _turned(source, old)
    if turned:
        rows, columns = columns, rows
    for part, rest in zip(_halves(source, rows), ("gate_proj", "up_proj"), strict=True):
        read = partial(_part, source, old, part, turned)
        yield source.tensor(f"{experts}.{rest}.weight", old, (count, rows // 2, columns), read)


def _joint_bias(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    old, experts = found[0], f"{found[1]}.{_place(source)}"
    count, rows = source.shape(old)
    for part, rest in zip(_halves(source, rows), ("gate_proj", "up_proj"), strict=True):
        read = partial(_part, source, old, part, False)
        yield source.tensor(f"{experts}.{rest}.bias", old, (count, rows // 2), read)


def _bias(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    old, name = found[0], f"{found[1]}.{_place(source)}.{found[2]}.bias"
    yield source.tensor(name, old, source.shape(old), partial(source.read, old))


def _blocks(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """gpt-oss's experts as OpenAI published them: their codes and scales stay as they are."""
    old, part = found[0], {"blocks": "weight", "scales": "scales"}[found[3]]
    count, rows, groups = source.shape(old)[:3]
    columns = groups * 4 if part == "weight" else groups
    slices = {found[2]: slice(None)}
    if found[2] == "gate_up_proj":
        slices = dict(zip(("gate_proj", "up_proj"), _halves(source, rows), strict=True))
    for rest, rows_of in slices.items():
        name = f"{found[1]}.{_place(source)}.{rest}.{part}"
        shape = (count, rows // len(slices), columns)
        read = partial(_words if part == "weight" else _part, source, old, rows_of, False)
        yield Tensor(name, shape, False, (read,), Stored(32, 4, "mxfp4"))


def _gate_up(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """A feed-forward layer whose gate lies above its up projection, where mlx_lm has two."""
    old = found[0]
    rows, columns = source.shape(old)
    for which, rest in enumerate(("gate_proj", "up_proj")):
        half = slice(which * rows // 2, (which + 1) * rows // 2)
        read = partial(_rows, source, old, half)
        yield source.tensor(f"{found[1]}.{rest}.weight", old, (rows // 2, columns), read)


def _latent(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """What expands a latent, as mlx_lm takes it apart: by head, with the keys' part turned."""
    own = next(b.mixer for b in source.config.blocks if isinstance(b.mixer, LatentConfig))
    keys, values = (own.heads, own.rank, own.nope_dim), (own.heads, own.value_dim, own.rank)
    old = found[0]
    for name, shape in {"embed_q": keys, "unembed_out": values}.items():
        read = partial(_heads, source, old, own, name == "embed_q")
        yield source.tensor(f"{found[1]}.{name}.weight", old, shape, read)


def _convolution(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """Turned here, where mlx_lm does so only if experts are apart."""
    old = found[0]
    channels, one, width = source.shape(old)
    shape = (channels, one, width) if width == 1 else (channels, width, one)
    read = partial(source.read, old)
    yield source.tensor(old, old, shape, read if width == 1 else partial(_turn, source, old))


def _norm(source: Source, found: re.Match[str]) -> Iterator[Tensor]:
    """Stored less 1, unless a convolution shows that it has been added."""
    old, norm = found[0], source.config.norm
    less = norm.turned is not None and source.shape(norm.turned)[2:] != (1,)
    read = partial(_more, source, old) if less else partial(source.read, old)
    yield source.tensor(old, old, source.shape(old), read)


# Of a name in the source (all of it), for some families or for all: what becomes of it. The first
# that matches counts.
Rule = tuple[str, tuple[str, ...], Callable[[Source, "re.Match[str]"], Iterator[Tensor]]]
LATENT = ("deepseek_v3", "glm4_moe_lite", "kimi_k2")
RULES: tuple[Rule, ...] = (
    (r"(.+)\.experts\.\d+\.(\w+)\.weight", (), _expert),
    (r"(.+)\.experts\.gate_up_proj(\.weight)?", (), _joint),
    (r"(.+)\.experts\.gate_up_proj_bias", (), _joint_bias),
    (r"(.+)\.experts\.(\w+)_(blocks|scales)", (), _blocks),
    (r"(.+)\.experts\.(\w+)_bias", (), _bias),
    (r"(.+)\.experts\.(\w+?)(\.weight)?", (), _stack),
    (r"(.+\.self_attn)\.kv_b_proj\.weight", LATENT, _latent),
    (r"(.+\.mlp)\.gate_up_proj\.weight", ("granitemoehybrid",), _gate_up),
    (r".+\.conv1d\.weight", ("qwen3_next",), _convolution),
    (r"(.+layernorm|.+\.[qk]_norm|model\.norm)\.weight", ("qwen3_next",), _norm),
)


def _place(source: Source) -> str:
    return EXPERTS.get(source.config.model_type, "switch_mlp")


def _own(source: Source) -> MoeConfig:
    parts = (block.feed_forward for block in source.config.blocks)
    sparse = (part.sparse if isinstance(part, BothConfig) else part for part in parts)
    return next(part for part in sparse if isinstance(part, MoeConfig))


def _turned(source: Source, name: str) -> bool:
    """Whether inputs come before outputs; they do not in modules."""
    return _own(source).turned and not name.endswith(".weight")


def _halves(source: Source, rows: int) -> tuple[slice, slice]:
    if _own(source).alternating:
        return slice(0, None, 2), slice(1, None, 2)
    return slice(0, rows // 2), slice(rows // 2, None)


def _part(source: Source, name: str, part: slice, turned: bool) -> mx.array:
    array = source.read(name)
    return mx.contiguous(array[:, :, part].swapaxes(1, 2) if turned else array[:, part])


def _words(source: Source, name: str, part: slice, turned: bool) -> mx.array:
    """Of 16 bytes to 32 numbers."""
    return _part(source, name, part, turned).view(mx.uint32).flatten(-2)


def _rows(source: Source, name: str, part: slice) -> mx.array:
    return mx.contiguous(source.read(name)[part])


def _turn(source: Source, name: str) -> mx.array:
    return mx.contiguous(source.read(name).swapaxes(1, 2))


def _more(source: Source, name: str) -> mx.array:
    return source.read(name) + 1


def _heads(source: Source, name: str, own: LatentConfig, keys: bool) -> mx.array:
    both = source.read(name).reshape(own.heads, own.nope_dim + own.value_dim, own.rank)
    part = both[:, : own.nope_dim].swapaxes(1, 2) if keys else both[:, own.nope_dim :]
    return mx.contiguous(part)
