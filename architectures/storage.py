"""How a checkpoint's numbers are stored: quantized modules, and families in mlx_lm's layout."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]
# What becomes of a tensor in mlx_lm's layout, beyond what is so for all families: an expansion of
# latents by head, a joint matrix as gate and up projection, the order of a convolution's weights,
# a norm's weights stored less 1.
Arrangement = Literal["latent", "gate_up", "convolution", "norm"]
NOTHING = r"\Z."  # a pattern that nothing matches


@dataclass(frozen=True, slots=True)
class Stored:
    """The quantization of one module, in the layout of MLX."""

    group: int
    bits: int
    mode: Mode = "affine"

    @property
    def entry(self) -> dict[str, int | str]:
        """The fields by their names in a config and in mx.quantize."""
        return {"group_size": self.group, "bits": self.bits, "mode": self.mode}


@dataclass(frozen=True, slots=True)
class Quantization:
    """A checkpoint's quantization; `modules` has the exceptions by name, None if not quantized.

    `method` is a foreign layout ("fp8": DeepSeek's, in blocks of `block`, which is a whole matrix
    where it is None) or "mlx".
    """

    default: Stored | None = None
    modules: Mapping[str, Stored | None] = field(default_factory=dict)
    method: Literal["mlx", "fp8", "mxfp4"] = "mlx"
    block: tuple[int, int] | None = (128, 128)


@dataclass(frozen=True, slots=True)
class MlxLm:
    """The rules of a family where a checkpoint is written for mlx_lm.

    `model_type` is mlx_lm's name of it, if that is another one; `experts` the module that has
    them, below the feed-forward layer's. The others are patterns of whole names: `rules` of tensors
    that are arranged anew, `unused` of some that mlx_lm wants although nothing is computed from
    them, `dense` of modules that are small, decide much and so keep their numbers, `small` of those
    whose numbers are so small that a floating mode's scales come to nothing.
    """

    model_type: str | None = None
    experts: str = "switch_mlp"
    rules: tuple[tuple[str, Arrangement], ...] = ()
    unused: str = NOTHING
    dense: str = NOTHING
    small: str = NOTHING
