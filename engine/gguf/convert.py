"""Writing of a GGUF file as a directory that mlx_lm loads."""

# `python -P -m bessemer.engine.gguf.convert` is the process behind `bessemer convert`.

import json
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import typer

from ...architectures.registry import configure
from ...architectures.storage import Stored
from ...kernels.linear.weight import Quantized, arrays_of, with_arrays
from ..checkpoint.checkpoint import open_checkpoint
from ..checkpoint.json_files import is_gguf, read_object
from ..checkpoint.mlx_layout import Change, MlxTensor, Shape, SourceCheckpoint, mlx_tensors
from ..checkpoint.shards import Shards, new_directory
from ..checkpoint.weight_files import CheckpointError
from ..checkpoint.weights import FLOATS, rename_tensors
from ..subcommand import INTO, STYLE, Lossy, run_app
from ..text.loading import load_tokenizer
from ..text.tokenizer import Tokenizer
from .blocks import BLOCKS
from .mlx_config import mlx_config
from .mlx_form import EIGHT, Error, error_of, in_halves, in_mlx_layout, is_exact, rounded

SHARD = 2 * 10**9  # bytes of a file at most, which are in memory until it is written
WIDEST = 4  # bytes of a scale at most, and as many of a bias
TABLES = ("IQ4_NL", "IQ4_XS")  # types of 4 bits that lie on no line
FLOATING = ("mxfp4", "nvfp4")  # modes without scales in floats
CLASS = "PreTrainedTokenizerFast"  # which takes tokenizer.json as it is

app = typer.Typer(**STYLE)


class BlockCheckpoint(SourceCheckpoint):
    """A GGUF file's tensors, of which those in blocks are read as weights."""

    def tensor(
        self, name: str, old: str, shape: Shape | None = None, change: Change | None = None
    ) -> MlxTensor:
        name = name.replace(".switch_mlp.", f".{self.config.mlx_lm.experts}.")
        return super().tensor(name, old, shape, change)

    def type(self, name: str) -> str:
        source = self._tensors[name].source
        assert source is not None
        return source.tensor.type.name

    def read(self, name: str, change: Change | None) -> Any:
        source = self._tensors[name].source
        if source is None or not source.in_blocks:
            return super().read(name, change)
        weight, above = source.matrix(exact=True), self.shape(name)[:-1]
        arrays = [array.reshape(*above, -1) for array in arrays_of(weight)]
        if change is not None:
            arrays = [mx.contiguous(change(array)) for array in arrays]
        return with_arrays(weight, arrays)


@dataclass(frozen=True, slots=True)
class Form:
    """What a type of the file became: by which layout, None if floats, in numbers of which type."""

    type: str
    stored: Stored | None
    dtype: mx.Dtype

    @property
    def said(self) -> str:
        dtype = str(self.dtype).removeprefix("mlx.core.")
        if self.stored is None:
            return dtype
        scales = f"with {dtype} scales" if self.stored.mode == "affine" else self.stored.mode
        return f"{self.stored.bits} bits by {self.stored.group}, {scales}"


@dataclass(slots=True)
class Conversion:
    """A file's way into a directory: what was written so far, and how far off it is.

    `dtype` is that of all floats that have the same numbers in it; where `lossy`, of all floats.
    """

    dtype: mx.Dtype
    lossy: bool
    shards: Shards
    counts: Counter[Form] = field(default_factory=Counter)
    errors: defaultdict[Form, Error] = field(default_factory=lambda: defaultdict(Error))
    modules: dict[str, Stored] = field(default_factory=dict)
    rounded: list[tuple[str, Form, Error]] = field(default_factory=list)

    def add(self, tensor: MlxTensor, type: str) -> None:
        value: Any = tensor.reads[0]()
        if isinstance(value, Quantized):
            self._add_codes(tensor, type, value)
        else:
            self._add_floats(tensor, type, value)

    def _add_codes(self, tensor: MlxTensor, type: str, weight: Quantized) -> None:
        near, error = in_mlx_layout(weight), Error()
        if near is None:
            near, error = rounded(weight)
        elif self.lossy:
            near, error = in_halves(near)
        assert near.mode in ("affine", "mxfp4", "nvfp4")
        stored = Stored(near.group, near.bits, near.mode)
        for part, array in zip(("weight", "scales", "biases"), arrays_of(near), strict=False):
            self.shards.add(f"{tensor.module}.{part}", array)
        self.modules[tensor.module] = stored
        self._note(tensor, Form(type, stored, near.scales.dtype), error)

    def _add_floats(self, tensor: MlxTensor, type: str, array: mx.array) -> None:
        near = array.astype(self.dtype)
        error = Error()
        if not mx.array_equal(near.astype(mx.float32), array.astype(mx.float32)):
            if self.lossy:
                error = error_of(near.astype(mx.float32), array.astype(mx.float32))
            else:
                near = array
        self.shards.add(tensor.name, near)
        self._note(tensor, Form(type, None, near.dtype), error)

    def _note(self, tensor: MlxTensor, form: Form, error: Error) -> None:
        self.counts[form] += 1
        self.errors[form] += error
        if error.relative:
            self.rounded.append((tensor.name, form, error))

    def lines(self) -> Iterator[str]:
        yield f"{'in the file':<12}{'tensors':>8}  {'in the directory':<36}its numbers"
        for form in sorted(self.counts, key=lambda form: (form.type, form.said)):
            off = self.errors[form].relative
            said = f"rounded, off by {off:.1%}" if off else "the same"
            yield f"{form.type:<12}{self.counts[form]:>8}  {form.said:<36}{said}"
        for name, form, error in self.rounded:
            yield f"{name}: {form.type} to {form.said}, off by {error.relative:.2%}"


def convert(path: Path, into: Path, lossy: bool = False, limit: int = SHARD) -> Conversion:
    """Write the new directory `into`, which appears when it is complete.

    Files have at most `limit` bytes. Raises ValueError or OSError, in one sentence for the user.
    """
    if not is_gguf(path):
        raise CheckpointError(f"{path} is no GGUF file; mlx_lm.convert takes other checkpoints")
    checkpoint = open_checkpoint(path)
    config, described = configure(checkpoint.config), mlx_config(checkpoint.config)
    source = BlockCheckpoint(rename_tensors(checkpoint, config), config)
    tensors = mlx_tensors(source)
    types = {each.name: source.type(each.old) for each in tensors}
    _require_layout(path, tensors, types, lossy)
    tokenizer = load_tokenizer(path, config=checkpoint.config)
    _require_space(into, sum(_most_bytes(each, types[each.name]) for each in tensors))
    with new_directory(into) as part:
        conversion = Conversion(_floats(types.values()), lossy, Shards(part, limit))
        for each in tensors:
            conversion.add(each, types[each.name])
        conversion.shards.finish()
        name = {"model_type": config.mlx_lm.model_type or config.model_type}
        quantized = _quantization(conversion.modules)
        _describe(path, described | name | quantized, tokenizer, part)
    return conversion


def _require_layout(
    path: Path, tensors: Sequence[MlxTensor], types: Mapping[str, str], lossy: bool
) -> None:
    blocks = [each for each in tensors if types[each.name] in BLOCKS]
    for each in blocks:
        if not each.by_rows:
            raise CheckpointError(
                f"{path} is of an older converter, which left {each.old} whole; convert the model "
                "anew, or serve the file as it is"
            )
    odd = Counter(types[each.name] for each in blocks if not is_exact(types[each.name]))
    if odd and not lossy:
        named = {types[each.name]: each.old for each in reversed(blocks)}
        said = " and ".join(
            f"{count} tensors in {type} ({named[type]}{' and others' if count > 1 else ''})"
            for type, count in sorted(odd.items())
        )
        raise CheckpointError(
            f"{path} has {said}, with scales for 16 numbers each, which MLX's layout has not; "
            f"--lossy rounds them to {EIGHT.bits} bits, and bessemer serve takes the file as it is"
        )


def _most_bytes(tensor: MlxTensor, type: str) -> int:
    """Return what a tensor takes at most."""
    count = math.prod(tensor.shape)
    if type not in BLOCKS:
        return count * FLOATS[type].size
    bits, group = (BLOCKS[type].bits, BLOCKS[type].group) if is_exact(type) else (8, EIGHT.group)
    bits = 8 if type in TABLES else bits
    return count * bits // 8 + count // group * 2 * WIDEST


def _require_space(into: Path, needed: int) -> None:
    folder = next(each for each in into.absolute().parents if each.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"{folder} has {free / 1e9:.3g} GB left, and {into.name} may take "
            f"{needed / 1e9:.3g}; make room, or name a directory elsewhere"
        )


def _floats(types: Iterable[str]) -> mx.Dtype:
    """Return the type of floats: of scales, if there are any, or of most tensors."""
    counts = Counter(types)
    if any(type in BLOCKS and BLOCKS[type].mode not in FLOATING for type in counts):
        return mx.float16
    halves = [type for type, _ in counts.most_common() if type in ("F16", "BF16")]
    blocks = any(type in BLOCKS for type in counts)
    return FLOATS[halves[0]] if halves else mx.bfloat16 if blocks else mx.float32


def _describe(path: Path, config: Mapping[str, Any], tokenizer: Tokenizer, into: Path) -> None:
    """Write the files that the GGUF file stands for."""
    drawing = read_object(path / "generation_config.json", CheckpointError) or {}
    files = {
        "config.json": {**config, "eos_token_id": drawing.get("eos_token_id")},
        "generation_config.json": drawing,
        "tokenizer_config.json": {**tokenizer.settings, "tokenizer_class": CLASS},
    }
    for file, said in files.items():
        (into / file).write_text(json.dumps(said, indent=2), "utf-8")
    tokenizer.encoding.save(str(into / "tokenizer.json"))


def _quantization(modules: Mapping[str, Stored]) -> dict[str, Any]:
    """Return the fields that say how modules are quantized: most of them alike."""
    if not modules:
        return {}
    ((usual, _),) = Counter(modules.values()).most_common(1)
    others = {name: stored.entry for name, stored in modules.items() if stored != usual}
    how = {**usual.entry, **others}
    return {"quantization": how, "quantization_config": how}


@app.command()
def command(
    source: Annotated[Path, typer.Argument(help="A GGUF file.")],
    into: Annotated[Path, typer.Argument(help=INTO)],
    lossy: Lossy = False,
) -> None:
    """Write a GGUF file as a directory for mlx_lm; `bessemer convert` also knows repositories."""
    conversion = convert(source, into, lossy)
    for line in conversion.lines():
        print(line)
    print(f"{into}: {conversion.shards.bytes / 1e9:.3g} GB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a mistake is one sentence on stderr."""
    return run_app(app, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
