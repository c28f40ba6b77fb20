"""MLX's own Metal headers, from the installed wheel, as the header of a custom kernel."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import mlx.core as mx

from bessemer.kernels.simulator.host import with_arena

INCLUDE = Path(mx.__file__).parent / "include"
KERNELS = "mlx/backend/metal/kernels/"

# What MLX prepends to every custom kernel: our own preamble stands for it.
PREPENDED = ("bf16.h", "bf16_math.h", "complex.h", "defines.h", "logging.h", "utils.h")

INCLUDED = re.compile(r'^\s*#include\s+"([^"]+)"\s*$', re.M)
DROPPED = re.compile(r"^\s*#(?:include\s+<.*|pragma once|pragma METAL.*)$|//[^\n]*", re.M)
CONSTANT = re.compile(r"^constant\s+(\w+)\s+(\w+)\s*\[\[function_constant\(\d+\)\]\]\s*;", re.M)
ATTRIBUTE = re.compile(r"\[\[(?:[^\[\]]|\[[^\]]*\])*\]\]")


@cache
def _text(*names: str) -> str:
    """Files with what they include, each once."""
    seen: set[str] = {KERNELS + name for name in PREPENDED}

    def inline(path: str) -> str:
        if path in seen:
            return ""
        seen.add(path)
        text = DROPPED.sub("", (INCLUDE / path).read_text())
        return INCLUDED.sub(lambda match: inline(match[1]), text)

    return "\n".join(inline(KERNELS + name) for name in names)


def header(*names: str, constants: Mapping[str, int] | None = None) -> str:
    """Kernels of these files as functions that a body may call.

    A function constant is 0 unless given. Threadgroup variables get their place of the arena here:
    in a header the simulator, as Metal, takes none.
    """
    values: Mapping[str, int] = constants or {}

    def define(match: re.Match[str]) -> str:
        return f"constexpr constant {match[1]} {match[2]} = {int(values.get(match[2], 0))};"

    text = CONSTANT.sub(define, _text(*names))
    return with_arena(ATTRIBUTE.sub("", text))
