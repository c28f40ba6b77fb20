"""Commands that a child runs: how typer reads them, their flags in both processes, their ends."""

import signal
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

from typer import Option, Typer, TyperException

from .command_line import fail, guarded

STYLE: Mapping[str, Any] = MappingProxyType({
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
})  # fmt: skip
TERMINATED = 143

MIXED = "mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6"  # the recipes of mlx_lm
MODES = "affine, mxfp4, mxfp8, nvfp4"
CHOICES: Mapping[str, str] = MappingProxyType(
    {"--bits": "2, 3, 4, 5, 6, 8", "--group-size": "32, 64, 128", "--mixed": MIXED, "--mode": MODES}
)
INTO = "The directory to write, which must be new."
Bits = Annotated[int | None, Option(help="Bits of a weight: 2, 3, 4 (the default), 5, 6 or 8.")]
GroupSize = Annotated[int | None, Option(help="Weights a scale: 32, 64 (the default) or 128.")]
Mixed = Annotated[str | None, Option(help=f"More bits where they count: {MIXED}.")]
Lossy = Annotated[
    bool,
    Option("--lossy", help="Round what MLX cannot hold, to 8 bits, and all scales to 16."),
]
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


def run_app(app: Typer, arguments: Sequence[str] | None) -> int:
    """Run a child's command and return its exit code; a mistake is one sentence on stderr."""

    def run() -> int:
        try:
            return int(app(arguments, standalone_mode=False) or 0)
        except TyperException as error:
            return fail("bessemer", error.format_message())
        except ValueError as error:
            return fail("bessemer", str(error))

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    return guarded("bessemer", run)
