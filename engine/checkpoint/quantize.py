"""Writing of a checkpoint in fewer bits, in mlx_lm's layout and names, so that it loads there."""

# `python -P -m bessemer.engine.checkpoint.quantize` is the process behind `bessemer quantize`.

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, cast

import mlx.core as mx
import typer

from ...architectures.config import ModelConfig
from ...architectures.read import FLOATING
from ...architectures.registry import configure
from ...architectures.storage import Mode, Stored
from ..subcommand import (
    INTO,
    STYLE,
    Bits,
    GroupSize,
    Layout,
    Mixed,
    quantize_flags,
    run_app,
)
from .checkpoint import Checkpoint, open_checkpoint
from .json_files import is_gguf
from .mlx_layout import MlxTensor, SourceCheckpoint, mlx_tensors
from .shards import SHARD, Shards, new_directory
from .weight_files import CheckpointError
from .weights import MIN_COLUMNS, rename_tensors

# Low and high bits, of mlx_lm's recipes (mlx_lm/convert.py, after llama.cpp's Q4_K_M).
RECIPES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"mixed_2_6": (2, 6), "mixed_3_4": (3, 4), "mixed_3_6": (3, 6), "mixed_4_6": (4, 6)}
)
CAREFUL = ("v_proj", "v_a_proj", "v_b_proj", "down_proj")  # in some layers of a mixed recipe
EIGHT = Stored(64, 8)  # mlx_lm's storage of numbers that are too small for a floating mode
# Files that go along as they are.
COPIED = (
    *("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"),
    "additional_chat_templates/*.jinja",
)
_LAYER = re.compile(r"\.layers\.(\d+)\.")

app = typer.Typer(**STYLE)


@dataclass(frozen=True, slots=True)
class QuantRecipe:
    """The bits of modules; `high` is for those that a mixed recipe is careful with."""

    usual: Stored
    high: int = 0

    @classmethod
    def of(cls, group: int, bits: int, mode: Mode = "affine", mixed: str = "") -> "QuantRecipe":
        if mode != "affine":
            return cls(Stored(*FLOATING[mode], mode))
        low, high = RECIPES[mixed] if mixed else (bits, 0)
        return cls(Stored(group, low), high)

    def at(self, module: str, config: ModelConfig) -> Stored:
        """Return how a module is quantized."""
        if self.usual.mode != "affine" and re.fullmatch(config.mlx_lm.small, module):
            return EIGHT
        return replace(self.usual, bits=self._bits(module, config.layers))

    def _bits(self, module: str, layers: int) -> int:
        if not self.high:
            return self.usual.bits
        match = _LAYER.search(module)
        layer = int(match[1]) if match else 0
        edge = layer < layers // 8 or layer >= 7 * layers // 8
        chosen = edge or (layer - layers // 8) % 3 == 2
        careful = "lm_head" in module or (chosen and any(part in module for part in CAREFUL))
        return self.high if careful else self.usual.bits


def quantize(source: Path, into: Path, recipe: QuantRecipe, limit: int = SHARD) -> int:
    """Write the new directory `into`, which appears when it is complete; return its bytes.

    Files have at most `limit` bytes. Raises ValueError or OSError, in one sentence for the user.
    """
    checkpoint = open_checkpoint(source)
    config = configure(checkpoint.config)
    tensors = mlx_tensors(SourceCheckpoint(rename_tensors(checkpoint, config), config))
    _require(checkpoint, config, recipe, tensors)
    with new_directory(into) as part:
        shards = Shards(part, limit)
        entries = _convert(tensors, config, recipe, shards)
        shards.finish()
        _describe(checkpoint, config, recipe, entries, part)
    return shards.bytes


def _require(
    checkpoint: Checkpoint, config: ModelConfig, recipe: QuantRecipe, tensors: Sequence[MlxTensor]
) -> None:
    if config.quantization.default is not None or is_gguf(checkpoint.path):
        raise CheckpointError(
            f"{checkpoint.path} is quantized already; give the checkpoint it was made from"
        )
    if recipe.high and not any(each.module.endswith("down_proj") for each in tensors):
        raise CheckpointError(
            f"a mixed recipe goes by modules named down_proj, of which {config.model_type} has none"
        )


def _convert(
    tensors: Sequence[MlxTensor], config: ModelConfig, recipe: QuantRecipe, shards: Shards
) -> dict[str, dict[str, Any]]:
    """Write all tensors; return the entries of modules that differ from the recipe's usual ones."""
    entries: dict[str, dict[str, Any]] = {}
    dense = re.compile("|".join([config.mlx_lm.dense, *_gates(config)]))
    for each in tensors:
        how = each.stored or recipe.at(each.module, config)
        quantizes = _divides(each, how) and not dense.fullmatch(each.module)
        for name, array in _parts(each, how if quantizes else None):
            shards.add(name, array)
        is_weight = each.name != each.module
        if is_weight and (quantizes or each.stored) and how != recipe.usual:
            entries[each.module] = how.entry
    return entries


def _divides(tensor: MlxTensor, how: Stored) -> bool:
    """Return whether a tensor can be quantized so, and be read by us and by mlx_lm."""
    return tensor.is_matrix and tensor.shape[-1] % max(how.group, MIN_COLUMNS) == 0


def _parts(tensor: MlxTensor, how: Stored | None) -> Iterator[tuple[str, mx.array]]:
    """Yield a tensor as it is, or quantized: experts one by one, so that no more is in memory."""
    if how is None:
        yield tensor.name, _stacked([read() for read in tensor.reads])
        return
    entry: dict[str, Any] = how.entry
    each = [_evaluated(mx.quantize(read(), **entry)) for read in tensor.reads]
    for i, part in enumerate(("weight", "scales", "biases")[: len(each[0])]):
        yield f"{tensor.module}.{part}", _stacked([parts[i] for parts in each])


def _evaluated(arrays: Sequence[mx.array]) -> Sequence[mx.array]:
    mx.eval(*arrays)
    return arrays


def _gates(config: ModelConfig) -> Iterator[str]:
    """Yield patterns of modules that are small, decide much, and so keep their numbers."""
    for layer, block in enumerate(config.blocks):
        for gate in block.gates:
            yield re.escape(f"{config.model}.layers.{layer}.{gate}")


def _stacked(parts: list[mx.array]) -> mx.array:
    return parts[0] if len(parts) == 1 else mx.stack(parts)


def _describe(
    checkpoint: Checkpoint,
    config: ModelConfig,
    recipe: QuantRecipe,
    entries: Mapping[str, Any],
    into: Path,
) -> None:
    """Write the config with how modules are quantized; copy the files that belong to the model."""
    how = {**recipe.usual.entry, **entries}
    name = config.mlx_lm.model_type or config.model_type
    more = {"model_type": name, "quantization": how, "quantization_config": how}
    (into / "config.json").write_text(json.dumps(checkpoint.config | more, indent=2))
    for pattern in COPIED:
        for file in checkpoint.path.glob(pattern):
            if file.name != "config.json" and not file.name.endswith(".index.json"):
                target = into / file.relative_to(checkpoint.path)
                target.parent.mkdir(exist_ok=True)
                shutil.copy(file, target)


@app.command()
def command(
    source: Annotated[Path, typer.Argument(help="A directory.")],
    into: Annotated[Path, typer.Argument(help=INTO)],
    bits: Bits = None,
    group_size: GroupSize = None,
    mixed: Mixed = None,
    mode: Layout = "affine",
) -> None:
    """Write a checkpoint in fewer bits; `bessemer quantize` also knows Hugging Face ids."""
    quantize_flags(bits=bits, group_size=group_size, mixed=mixed, mode=mode)
    recipe = QuantRecipe.of(group_size or 64, bits or 4, cast(Mode, mode), mixed or "")
    print(f"{into}: {quantize(source, into, recipe) / 1e9:.3g} GB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a mistake is one sentence on stderr."""
    return run_app(app, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
