"""Every .metal file of ours: complete Metal on its own, in three types, short enough for MLX."""

import re
from pathlib import Path

import pytest

from bessemer.kernels.metal.source import HERE, metal_files, sources
from bessemer.kernels.simulator.host import without_comments
from bessemer.kernels.simulator.options import MetalCompileError
from bessemer.kernels.simulator.standalone import compile_standalone

FILES = list(metal_files().values())
LONGEST = 8192  # characters of a kernel's text, which MLX hashes at every launch
# All of a step's work of a kind in one launch: what it saves is more than the hash of its text.
LONGER = {
    "attention.metal": 12288,
    "attention_quantized.metal": 15360,
    "latent_attention.metal": 10240,
    "sample.metal": 12800,
    # All ways in which weights are stored: scales.h has some 3,400 characters for superblocks.
    "head_linear.metal": 9216,
    "linear.metal": 12288,
    "linear_rows.metal": 11776,
    "moe_decode.metal": 13312,
    "moe_prefill.metal": 11264,
    "route.metal": 14336,
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


# Without a namespace these are the fast ones, or those of the compiler's mode of mathematics.
FUNCTIONS = (
    *("exp", "exp2", "exp10", "log", "log2", "log10", "rsqrt", "sqrt", "pow", "powr", "divide"),
    *("sin", "cos", "tan", "sincos", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh"),
    *("fmod", "fmax", "fmin"),
)
BARE = re.compile(rf"(?<![\w:.])(?:{'|'.join(FUNCTIONS)})\s*\(")
SHARED = re.compile(r"(?<![\w:.])(max|min|clamp)(?=\s*\()")  # with whole numbers they stay
WHOLE = """
template <typename T> enable_if_t<is_integral_v<T>, T> whole_max(T a, T b) { return max(a, b); }
template <typename T> enable_if_t<is_integral_v<T>, T> whole_min(T a, T b) { return min(a, b); }
template <typename T> enable_if_t<is_integral_v<T>, T> whole_clamp(T a, T b, T c) {
  return clamp(a, b, c);
}
"""


def check_namespaces(path: Path, text: str, folder: Path) -> None:
    """Compile the text with functions in the place of bare ones that whole numbers alone have."""
    headers = {header.name: header.read_text() for header in HERE.glob("*.h")}
    for name, each in {**headers, path.name: text}.items():
        bare = BARE.search(without_comments(each))
        assert bare is None, f"{name}: {bare[0]}) has no namespace"
    for name, each in headers.items():
        (folder / name).write_text(SHARED.sub(r"whole_\1", each))
    replaced = SHARED.sub(r"whole_\1", text)
    compile_standalone(
        replaced.replace("using namespace metal;", f"using namespace metal;{WHOLE}", 1), [folder]
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_functions_of_numbers_say_how_exact_they_are(path: Path, tmp_path: Path) -> None:
    check_namespaces(path, path.read_text(), tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("rms_norm.metal", "precise::rsqrt", "rsqrt"),
        ("latent_attention.metal", "precise::max(top", "max(top"),
        ("latent_append.metal", "precise::clamp(code, 0.0f", "clamp(code, 0.0f"),
    ],
)
def test_a_function_without_a_namespace_is_noticed(
    file: str, old: str, new: str, tmp_path: Path
) -> None:
    path = metal_files()[file]
    text = path.read_text()
    assert old in text
    with pytest.raises((AssertionError, MetalCompileError), match=r"no namespace|whole_"):
        check_namespaces(path, text.replace(old, new), tmp_path)


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
