"""Every .metal file of ours: complete Metal on its own, in three types, short enough for MLX."""

import re
from pathlib import Path

import pytest

from bessemer.kernels.metal.source import HERE, metal_files, sources
from bessemer.kernels.simulator.options import MetalCompileError
from bessemer.kernels.simulator.standalone import compile_standalone

FILES = list(metal_files().values())
LONGEST = 8192  # characters of a kernel's text, which MLX hashes at every launch
# All of a step's work of a kind in one launch: what it saves is more than the hash of its text.
LONGER = {
    "attention.metal": 12288,
    "attention_quantized.metal": 15360,
    "latent_attention.metal": 10240,
    "moe_decode.metal": 9216,
    "route.metal": 10240,
    "sample.metal": 12800,
}
TYPES = ("float", "half", "bfloat")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_compiles_by_itself(path: Path) -> None:
    text = path.read_text()
    compile_standalone(text, include=[HERE])
    assert text.startswith("// ") and "#include <metal_stdlib>" in text


def test_what_is_broken_does_not_compile() -> None:
    path = next(path for path in FILES if path.name == "rms_norm.metal")
    with pytest.raises(MetalCompileError):
        compile_standalone(path.read_text().replace("simd_sum", "simd_sam"), include=[HERE])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_kernels_of_activations_are_instantiated_in_three_types(path: Path) -> None:
    _, _, rest = path.read_text().partition("// instantiations")
    for name, source in sources(path).items():
        assert re.search(rf"\b{name}\b", rest), f"{name} is never instantiated"
        if ("typename", "T") in source.template:
            assert all(re.search(rf"\b{each}\b", rest) for each in TYPES), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_mlx_hashes_is_short(path: Path) -> None:
    for name, source in sources(path).items():
        size = len(source.header_text) + len(source.body_text)
        assert size <= LONGER.get(path.name, LONGEST), f"{name}: {size}"
