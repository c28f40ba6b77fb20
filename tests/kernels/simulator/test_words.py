"""Tests of the words that Metal keeps to itself, in kernels and in whole files."""

import re
from pathlib import Path

import pytest

from bessemer.kernels.metal.source import metal_files, sources
from bessemer.kernels.simulator.host import without_comments
from bessemer.kernels.simulator.options import MetalCompileError
from bessemer.kernels.simulator.standalone import compile_standalone
from bessemer.kernels.simulator.words import FOREIGN, QUALIFIERS, check_words

from .running import I, planted


@pytest.mark.parametrize("word", FOREIGN)
@pytest.mark.parametrize(
    "text", ["int {};", "void f(thread T& {}) {{", "x = {} + 1;", "{}.x = 1;", "struct {} {{"]
)
def test_words_of_graphics_are_no_names(word: str, text: str) -> None:
    with pytest.raises(MetalCompileError, match=f"^k:2: error: {word} is a word of Metal"):
        check_words("\n" + text.format(word), "k")


@pytest.mark.parametrize("word", [*QUALIFIERS, "half", "bfloat", "uint", "float4", "half2x4"])
@pytest.mark.parametrize(
    "text",
    [
        *("int {} = 3;", "T {};", "T a, b; int {}[4];", "void f(const device T* {}) {{"),
        *("void f(thread T& {}, int a) {{", "vec<float, 4> {};", "auto {}= 1;"),
    ],
)
def test_types_and_qualifiers_are_no_names(word: str, text: str) -> None:
    with pytest.raises(MetalCompileError, match=f"error: {word} is a word of Metal"):
        check_words(text.format(word), "k")


@pytest.mark.parametrize(
    "text",
    [
        *("threadgroup half a[4];", "constant constexpr const float LOW = 1;", "kernel void f()"),
        *("x = (const device half*)y;", "fill<const device half, float>(o);", "if (x == half(1))"),
        *("[[fragment]] [[mesh]]", "template <typename T, typename half_type>", "typedef float Q;"),
        *("return as_type<half>(x);", "return half;", "static constexpr constant half a = 1;"),
        *("vertexes = fragment_row(lane);", "os_log(\"a fragment\");", "unsigned int a, b;"),
        *("f(thread half& x, ulong y)", "for (uint i = 0; i < n; i++)", "using T = half;"),
    ],
)  # fmt: skip
def test_where_they_belong_they_stay(text: str) -> None:
    check_words(text, "k")


def test_our_own_files_and_headers_have_no_such_name() -> None:
    for path in metal_files().values():
        for source in sources(path).values():
            check_words(source.header_text + source.body_text, path.name)


def test_the_simulator_refuses_them() -> None:
    source = f"{I}float fragment = a[i];\no[i] = fragment;"
    with pytest.raises(MetalCompileError, match="fragment is a word of Metal"):
        planted(source)
    assert without_comments("// a fragment") == " " * 13


def test_a_whole_file_and_what_it_includes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "part.h").write_text("inline float part(float mesh) { return mesh; }\n")
    text = '#include <metal_stdlib>\nusing namespace metal;\n#include "part.h"\n'
    with pytest.raises(MetalCompileError, match=re.escape("part.h:1: error: mesh is a word")):
        compile_standalone(text, [tmp_path])
    with pytest.raises(MetalCompileError, match=re.escape("kernel.metal:4: error: vertex")):
        compile_standalone(f"{text}constant int vertex = 1;\n", [tmp_path])
