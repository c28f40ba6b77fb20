"""The look of the commands that typer reads, and the flags of `quantize`, in both its processes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from typer import Option

STYLE: Mapping[str, Any] = MappingProxyType({
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
})  # fmt: skip

MIXED = "mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6"  # the recipes of mlx_lm
MODES = "affine, mxfp4, mxfp8, nvfp4"
CHOICES: Mapping[str, str] = MappingProxyType(
    {"--bits": "2, 3, 4, 5, 6, 8", "--group-size": "32, 64, 128", "--mixed": MIXED, "--mode": MODES}
)
INTO = "The directory to write, which must be new."
Bits = Annotated[int | None, Option(help="Bits of a weight: 2, 3, 4 (the default), 5, 6 or 8.")]
GroupSize = Annotated[int | None, Option(help="Weights a scale: 32, 64 (the default) or 128.")]
Mixed = Annotated[str | None, Option(help=f"More bits where they count: {MIXED}.")]
Layout = Annotated[str, Option(help=f"The layout: {MODES}.")]


def quantize_flags(**values: int | str | None) -> dict[str, str]:
    """Return the flags that are set, checked; ValueError is a sentence for the user."""
    flags = {f"--{name.replace('_', '-')}": str(v) for name, v in values.items() if v is not None}
    for flag, value in flags.items():
        if value not in CHOICES[flag].split(", "):
            raise ValueError(f"{flag} is {value}; choose one of {CHOICES[flag]}")
    if "--mixed" in flags and "--bits" in flags:
        raise ValueError("--mixed says the bits, so leave --bits out")
    for flag in ("--bits", "--group-size", "--mixed"):
        if flag in flags and flags["--mode"] != "affine":
            raise ValueError(f"{flag} goes with --mode affine alone, not with {flags['--mode']}")
    return flags
