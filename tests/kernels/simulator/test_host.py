"""Metal text becomes text for clang: arenas, constructors, comments, entries."""

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.host import (
    ENTRY,
    host_text,
    with_arena,
    with_constructors,
    without_comments,
)
from bessemer.kernels.simulator.kernel import SimulatorError
from bessemer.kernels.simulator.signature import Definition, Operand, sign

from .running import I, planted


def test_words_in_comments_are_no_code() -> None:
    source = f"""// A threadgroup takes 8 rows; vec<float, 2>(1, 2) is a value;
/* So does a threadgroup of
   another kind; */ {I}o[i] = a[i]; // threadgroup float s[4];
o[99] = 1;"""
    with pytest.raises(SimulatorError, match="out-of-bounds") as caught:
        planted(source)
    assert "at kernel:5  `o[99] = 1;`" in str(caught.value)


def test_comments_are_blanked_in_their_place_and_strings_stay() -> None:
    assert without_comments('a /* b\n c */ d // e\n"// f"') == 'a     \n      d     \n"// f"'


def test_threadgroup_variables_are_numbered_and_keep_their_lines() -> None:
    text = with_arena("threadgroup float a[4],\n  b;\nfor (threadgroup float* p = a; ;) {}")
    assert '__msl_tg_alloc(1u, sizeof(float [4]), alignof(float), "a")' in text
    assert '__msl_tg_alloc(2u, sizeof(float ), alignof(float), "b")' in text
    assert text.split("\n")[2] == "for (threadgroup float* p = a; ;) {}"


def test_what_clang_reads_otherwise_is_rewritten() -> None:
    assert with_constructors("vec<T, 2>(x, y)") == "metal::__mk<vec<T, 2>>(x, y)"
    assert with_constructors("float2 at(x, y);") == "float2 at = metal::__mk<float2>(x, y);"
    assert with_constructors("float2 f(float x);") == "float2 f(float x);"
    assert with_constructors("T get() const device { return x; }") == "T get() const  { return x; }"
    assert with_constructors("void f(device float a[4])") == "void f(device float *a)"


def test_an_entry_passes_buffers_and_attributes() -> None:
    definition = Definition("k", ("a",), ("o",), f"{I}o[i] = a;", "", False)
    signature = sign(definition, [Operand.of(mx.array(1.0))], [mx.float32], ())
    text = host_text(definition, signature)
    assert f"void {ENTRY}(void** b, const __msl_ctx* c)" in text
    assert "*(const constant float*)(unsigned long)b[0], (device float*)(unsigned long)b[1]" in text
    assert "uint3{c->tpig[0], c->tpig[1], c->tpig[2]}" in text
