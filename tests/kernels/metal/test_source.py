"""Taking a .metal file apart: forms that are read, and forms that are refused with a reason."""

from pathlib import Path

import pytest

from bessemer.kernels.metal import source
from bessemer.kernels.metal.source import SourceError, metal_files, sources, squeezed

SCALE = """\
// What it does.
#include <metal_stdlib>
using namespace metal;

template <typename T, int D>
[[kernel]] void scale(
    const device T* x [[buffer(0)]],
    device const int* lengths [[buffer(1)]],
    constant float& factor [[buffer(2)]],  // a number
    constant int* sizes [[buffer(3)]],
    device T* y [[buffer(4)]],
    device float* z [[buffer(5)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  // the body
  uint i = thread_position_in_grid.x;

  if (i < uint(sizes[0])) {
    y[i] = x[i] * T(factor);  // }
  }
}

// instantiations
template [[host_name("scale_float")]] [[kernel]] decltype(scale<float, 1>) scale<float, 1>;
"""
OTHER = """\
[[kernel]] void other(device float* y [[buffer(0)]]) { y[0] = 1; }
"""


def written(folder: Path, text: str, name: str = "made.metal") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_parameters_template_and_body(tmp_path: Path) -> None:
    kernel = sources(written(tmp_path, SCALE))["scale"]
    assert kernel.name == "scale"
    assert kernel.template == (("typename", "T"), ("int", "D"))
    assert kernel.inputs == ("x", "lengths", "factor", "sizes")
    assert kernel.outputs == ("y", "z")
    assert kernel.header_text == ""
    assert [line.text for line in kernel.body] == [
        "uint i = thread_position_in_grid.x;",
        "if (i < uint(sizes[0])) {",
        "y[i] = x[i] * T(factor);",
        "}",
    ]


def test_lines_say_where_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path, SCALE)
    lines = path.read_text().splitlines()
    body = sources(path)["scale"].body
    assert [lines[line.number - 1].split("//")[0].strip() for line in body] == [
        line.text for line in body
    ]
    assert {line.file for line in body} == {path.name}


def test_several_kernels_of_a_file(tmp_path: Path) -> None:
    helper = "inline float one() {\n  return 1;\n}\n"
    text = SCALE.replace("template <typename", helper + OTHER + "template <typename", 1)
    kernels = sources(written(tmp_path, text))
    assert list(kernels) == ["other", "scale"]
    assert kernels["other"].template == ()
    assert kernels["other"].body_text == "y[0]=1;"
    assert kernels["other"].header_text == kernels["scale"].header_text == ""


def test_a_template_over_several_lines(tmp_path: Path) -> None:
    text = OTHER.replace("[[kernel]]", "template <\n  typename T,\n  bool FLAG>\n[[kernel]]")
    assert sources(written(tmp_path, text))["other"].template == (
        ("typename", "T"),
        ("bool", "FLAG"),
    )


def test_only_functions_that_are_called_are_kept(tmp_path: Path) -> None:
    text = """\
enum { SIZE = 4 };
struct Pair {
  float a;
};
#define TWICE(x) (2 * (x))
constant constexpr int TABLE[2] = {1, 2};
inline float inner(float x) {
  return x;
}
template <int N>
inline float outer(float x) {
  for (int i = 0; i < N; i++) {
    x = inner(x);
  }
  return x;
}
inline float outer(int x) {
  return x;
}
inline float outermost(float x) {
  return outer<2>(x);
}
template <typename T>
constexpr bool unused() {
  return true;
}
"""
    used = sources(written(tmp_path, text + OTHER.replace("= 1", "= outer<3>(1)")))["other"]
    for word in ("SIZE", "Pair", "TWICE", "TABLE", "inner", "outer"):
        assert word in used.header_text
    assert used.header_text.count("inline float outer(") == 2
    for word in ("unused", "outermost", "constexpr bool"):
        assert word not in used.header_text
    bare = sources(written(tmp_path, text + OTHER, "bare.metal"))["other"]
    for word in ("inner", "outer", "unused"):
        assert word not in bare.header_text
    for word in ("SIZE", "Pair", "TWICE", "TABLE"):
        assert word in bare.header_text


def test_our_includes_come_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "HERE", tmp_path)
    written(tmp_path, '#pragma once\n#include "low.h"\nenum { HIGH = 1 };\n', "high.h")
    written(tmp_path, "#pragma once\nenum { LOW = 2 };  // low\n", "low.h")
    text = f'#include <metal_stdlib>\n#include "low.h"\n#include "high.h"\n{OTHER}'
    kernel = sources(written(tmp_path, text))["other"]
    assert kernel.header_text == "enum { LOW=2 };\nenum { HIGH=1 };\n"
    assert [(line.file, line.number) for line in kernel.header] == [("low.h", 2), ("high.h", 3)]


REFUSED = {
    "no kernel": ("inline int one() {\n  return 1;\n}\n", "holds no"),
    "no end": (OTHER.replace("; }", ";"), "other has no end"),
    "no end of parameters": (OTHER.replace(")]])", ")]]"), "other has no end"),
    "a template of a kind": (f"template <uint N>\n{OTHER}", "no template 'uint N'"),
    "a template of classes": (f"template <class T>\n{OTHER}", "no template 'class T'"),
    "a default": (f"template <int N = 3>\n{OTHER}", "no template 'int N = 3'"),
    "no attribute": (OTHER.replace(" [[buffer(0)]]", ""), "cannot read parameter 'device float"),
    "a comma in a type": (OTHER.replace("float*", "vec<float, 4>*"), "cannot read parameter"),
    "no pointer": (OTHER.replace("float*", "float"), "passes no y"),
    "another name": (
        OTHER.replace("device float* y [[buffer(0)]]", "uint i [[thread_position_in_grid]]"),
        "passes no i",
    ),
    "another attribute": (OTHER.replace("buffer(0)", "texture(0)"), "passes no y"),
    "another place": (OTHER.replace("buffer(0)", "buffer(1)"), "another place for y"),
    "an input after an output": (
        OTHER.replace(")]])", ")]], const device float* x [[buffer(1)]])"),
        "another place for x",
    ),
    "a comment of its own kind": (f"/* a\n{OTHER}*/\n", "made.metal:1: only comments"),
    "an unknown include": (f'#include "nowhere.h"\n{OTHER}', "there is no nowhere.h"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path: Path, case: str) -> None:
    text, reason = REFUSED[case]
    with pytest.raises(SourceError, match=reason) as raised:
        sources(written(tmp_path, text))
    assert "made.metal" in str(raised.value)


@pytest.mark.parametrize("path", metal_files().values(), ids=lambda path: path.name)
def test_our_files_keep_the_form(path: Path) -> None:
    for name, kernel in sources(path).items():
        assert kernel.outputs and kernel.body
        assert f"void {name}(" in path.read_text()
    assert path.read_text().startswith("// ")


def test_what_mlx_passes_of_an_input_is_no_input(tmp_path: Path) -> None:
    path = tmp_path / "shaped.metal"
    path.write_text(
        "[[kernel]] void shaped(\n"
        "    const device float* x [[buffer(0)]],\n"
        "    const constant int* x_shape [[buffer(1)]],\n"
        "    device float* y [[buffer(2)]]) {\n"
        "  y[0] = x_shape[0];\n"
        "}\n"
    )
    source = sources(path)["shaped"]
    assert source.inputs == ("x",) and source.outputs == ("y",)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("y[i] = T(a + b) * c;", "y[i]=T(a+b)*c;"),
        ("if (a < b && c >= d) {", "if (a<b&&c>=d){"),
        ("x = a - -b + *c / *d;", "x=a - -b + *c / *d;"),
        ("for (int i = 0; i < N; i++) {", "for (int i=0;i<N;i++){"),
        ("template <typename T, int N>", "template <typename T,int N>"),
        ("return a ? b : -c;", "return a ? b : -c;"),
        ("#define unrolled _Pragma(x) (1 + 2)", "#define unrolled _Pragma(x) (1 + 2)"),
    ],
)
def test_blanks_that_mean_nothing_are_left_out(text: str, left: str) -> None:
    assert squeezed(text) == left
