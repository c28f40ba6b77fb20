"""Tests of the C++ that a version of Metal does not have, in kernels and in whole files."""

import pytest

from bessemer.kernels.metal.source import metal_files, sources
from bessemer.kernels.simulator.host import without_comments
from bessemer.kernels.simulator.kernel import SimulatorOptions
from bessemer.kernels.simulator.limits import NEVER, VERSIONS, check_limits
from bessemer.kernels.simulator.options import Language, MetalCompileError
from bessemer.kernels.simulator.standalone import compile_standalone

from .running import I, planted

LAMBDA = f"{I}auto twice = [&](float x) {{ return 2 * x; }};\no[i] = twice(a[i]);"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("word", NEVER)
def test_words_that_no_version_has(word: str, version: Language) -> None:
    with pytest.raises(MetalCompileError, match=f"^k:2: error: Metal does not have {word}$"):
        check_limits(f"int f(int x) {{\n  x = {word} (x);\n}}", "k", version)


def test_lambdas_came_with_3_2() -> None:
    with pytest.raises(MetalCompileError, match=r"kernel:2: error: Metal 3.1 .* lambda"):
        planted(LAMBDA)
    planted(LAMBDA, options={"language": "3.2"})


def test_what_is_of_c_plus_plus_17_alone() -> None:
    text = "template <auto N>\nstruct A { float x[N]; };"
    for version in VERSIONS[:2]:
        with pytest.raises(MetalCompileError, match="k:1: error: Metal 3"):
            check_limits(text, "k", version)
    check_limits(text, "k", "4.0")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "text",
    [
        *("float table[4] = {1};", "static int count;", "constexpr int N = 4;", "int2 a{1, 2};"),
        *("namespace n {\nint inside = 0;\n}", "template <typename T> T zero = 0;"),
        *("volatile device uint* flag;", "threadgroup float shared[4];", "vec<float, 4> v;"),
    ],
)
def test_a_program_has_no_variables_but_constants(text: str, version: Language) -> None:
    with pytest.raises(MetalCompileError, match=r"k:[234]: error: a variable of the program"):
        check_limits(f"\n{text}", "k", version)


@pytest.mark.parametrize(
    "text",
    [
        *("constant float a[2] = {1, 2};", "static constexpr constant int N = 4;", "enum { A };"),
        *("template <typename T>\nconstant constexpr T zero = 0;", "struct A { int x; };"),
        *("typedef float Q;", "using T = half;", "int f(int a) { int b[2] {1, 2}; return b[a]; }"),
        *("template <typename T> T f(T x) { return x[i] = {}; }", "#define NEW(x) new x"),
        *("float f(const device float* x);", "struct A { A() : x(1) {} int x; };", "int g();"),
        *("template <typename T, int N = 4> struct A { enum { B = N ? 1 : 2 }; };", "// a goto"),
        *('[[host_name("throw")]] kernel void f() {}', "struct A; union B { int x; };"),
        *("struct A : B { int x; };", "int f() noexcept;"),
    ],
)
def test_what_all_have(text: str) -> None:
    check_limits(without_comments(text), "k", "3.1")


def test_our_own_texts_keep_to_the_oldest() -> None:
    for path in metal_files().values():
        for source in sources(path).values():
            check_limits(source.header_text, path.name, "3.1")
            check_limits(f"{{{source.body_text}}}", path.name, "3.1")


def test_whole_files_are_refused_too() -> None:
    text = "#include <metal_stdlib>\nusing namespace metal;\nint n = 0;\n"
    with pytest.raises(MetalCompileError, match=r"kernel\.metal:3: error: a variable"):
        compile_standalone(text, options=SimulatorOptions(language="4.0"))


def test_a_kernel_may_call_itself() -> None:
    """Since Metal 2.4, for functions of compute kernels."""
    header = "inline int depth(int n) { return n > 1 ? 1 + depth(n / 2) : 0; }\n"
    (out,) = planted(f"{I}o[i] = depth(int(a[i]));", header=header)
    assert out[:9].tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 3]
