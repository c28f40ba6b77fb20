"""The generated Metal text is MLX's own, byte for byte; misuse raises what MLX raises."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.kernel import MetalKernel, metal_kernel
from bessemer.kernels.simulator.signature import ATTRIBUTES, Operand, TemplateValue, text

EVERY_ATTRIBUTE = "\n".join(f"// {name}" for name in ATTRIBUTES)
Template = Sequence[tuple[str, TemplateValue]]

TEMPLATES: dict[str, Template] = {
    "none": (),
    "dtype": (("T", mx.float16),),
    "bool": (("B", True), ("C", False)),
    "int": (("N", 7),),
    "negative": (("N", -4), ("T", mx.bfloat16), ("B", True)),
}
INPUTS: dict[str, list[Any]] = {
    "arrays": [mx.zeros((16,)), mx.zeros((4, 4), mx.float16), mx.zeros((2, 8), mx.int64)],
    "small": [mx.zeros((7,)), mx.zeros((8,), mx.bfloat16), mx.zeros((1, 1), mx.uint8)],
    "scalars": [mx.array(3), 2.5, True],
    "mixed": [mx.array(1, mx.uint32), mx.zeros((3,), mx.bool_), -3],
    "empty": [mx.zeros((0,)), mx.zeros((16,), mx.int8), mx.zeros((9,), mx.complex64)],
}
SOURCES = {
    "plain": "uint i = thread_position_in_grid.x; o[i] = 0;",
    "shapes": "// a_shape a_strides a_ndim b_strides c_shape c_ndim thread_position_in_grid",
    "no_attributes": "// a_shape a_strides b_ndim",  # MLX ends the parameters too early
    "attributes": EVERY_ATTRIBUTE,
    "substrings": "// bba_shapes simdgroups_per_threadgroup xb_ndim_",
}


def exported(path: Path, arguments: Mapping[str, Any], inputs: list[Any], **call: Any) -> bytes:
    """Return what MLX writes of a kernel that it cannot run here."""
    kernel: Any = mx.fast.metal_kernel(**arguments)
    arrays = [x for x in inputs if isinstance(x, mx.array)]

    def called(*args: mx.array) -> list[mx.array]:
        rest = iter(args)
        return kernel(inputs=[next(rest) if isinstance(x, mx.array) else x for x in inputs], **call)

    file = path / "kernel.mlxfn"
    mx.export_function(str(file), called, *arrays)
    return file.read_bytes()


def generated(kernel: MetalKernel, inputs: list[Any], dtypes: Any, template: Template) -> str:
    arrays = [x if isinstance(x, mx.array) else mx.array(x) for x in inputs]
    return text(kernel.definition, kernel.signature(arrays, dtypes, template))


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_text(tmp_path: Path, template: str, inputs: str, source: str, atomic: bool) -> None:
    arguments = {
        "name": "text",
        "input_names": ["a", "b", "c"],
        "output_names": ["o", "p"],
        "source": SOURCES[source],
        "header": "// before\n",
        "atomic_outputs": atomic,
    }
    dtypes = [mx.float32, mx.int32]
    blob = exported(
        tmp_path,
        arguments,
        INPUTS[inputs],
        template=list(TEMPLATES[template]) or None,
        grid=(16, 1, 1),
        threadgroup=(16, 1, 1),
        output_shapes=[(16,), (2,)],
        output_dtypes=dtypes,
    )
    text = generated(
        metal_kernel(**arguments),
        INPUTS[inputs],
        dtypes,
        TEMPLATES[template],  # type: ignore[arg-type]
    )
    assert text.encode() in blob


@pytest.mark.parametrize("dtype", [mx.bool_, mx.uint16, mx.uint64, mx.int16, mx.int32, mx.bfloat16])
def test_every_dtype(tmp_path: Path, dtype: mx.Dtype) -> None:
    arguments = {"name": "d", "input_names": ["a"], "output_names": ["o"], "source": "//"}
    call = {"output_shapes": [(1,)], "output_dtypes": [dtype], "template": [("T", dtype)]}
    inputs = [mx.zeros((8,), dtype)]
    sizes: Any = {"grid": (1, 1, 1), "threadgroup": (1, 1, 1)}
    blob = exported(tmp_path, arguments, inputs, **call, **sizes)
    text = generated(metal_kernel(**arguments), inputs, [dtype], [("T", dtype)])  # type: ignore[arg-type]
    assert text.encode() in blob


def test_verbose_prints_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = metal_kernel("v", ["a"], ["o"], "o[thread_position_in_grid.x] = a[0];")
    x = mx.zeros((8,))
    call(kernel, inputs=[x], verbose=True)
    printed = capsys.readouterr().out
    assert printed.startswith(
        "Generated source code for `v`:\n```\n[[kernel]] void custom_kernel_v"
    )
    assert generated(kernel, [x], [mx.float32], ()) in printed
    assert printed.endswith("\n```\n")


def test_operands_of_python_numbers_are_scalars() -> None:
    assert Operand.of(mx.array(1.5)) == Operand(mx.float32, scalar=True, small=True)


def call(kernel: Any, **changed: Any) -> Any:
    arguments: dict[str, Any] = {
        "inputs": [mx.zeros((8,))],
        "output_shapes": [(8,)],
        "output_dtypes": [mx.float32],
        "grid": (8, 1, 1),
        "threadgroup": (8, 1, 1),
    }
    return kernel(**(arguments | changed))


def raised(action: Callable[[], object]) -> tuple[type, str]:
    with pytest.raises(Exception) as caught:
        action()
    return caught.type, str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"output_names": []},
        {"compile_options": {"math_mode": "quick"}},
        {"compile_options": {"optimise": True}},
        {"compile_options": 3},
    ],
)
def test_misuse_at_construction(changed: dict[str, Any]) -> None:
    definition: dict[str, Any] = {
        "name": "m",
        "input_names": [],
        "output_names": ["o"],
        "source": "",
    }
    ours = raised(lambda: metal_kernel(**(definition | changed)))
    assert ours == raised(lambda: mx.fast.metal_kernel(**(definition | changed)))


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": []},
        {"output_shapes": []},
        {"output_dtypes": [mx.float32, mx.float32]},
        {"template": [("T", "float")]},
        {"template": [("T", 1.5)]},
        {"template": [("N", 1 << 31)]},
        {"inputs": ["text"]},
        {"inputs": [[1.0, 2.0]]},
    ],
)
def test_misuse_at_the_call(changed: dict[str, Any]) -> None:
    arguments: Any = ("m", ["a"], ["o"], "")
    ours = raised(lambda: call(metal_kernel(*arguments), **changed))
    assert ours == raised(lambda: call(mx.fast.metal_kernel(*arguments), **changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": [None]},
        {"grid": (8, 1)},
        {"threadgroup": (8, 1, 1.5)},
        {"init_value": "0"},
        {"output_shapes": [8]},
        {"output_dtypes": ["float"]},
    ],
)
def test_misuse_of_types(changed: dict[str, Any]) -> None:
    arguments: Any = ("m", ["a"], ["o"], "")
    ours, _ = raised(lambda: call(metal_kernel(*arguments), **changed))
    real, _ = raised(lambda: call(mx.fast.metal_kernel(*arguments), **changed))
    assert ours is real is TypeError


def test_it_accepts_only_the_gpu() -> None:
    kernel = metal_kernel("g", ["a"], ["o"], "o[thread_position_in_grid.x] = a[0];")
    call(kernel, stream=mx.gpu)
    call(kernel, stream=mx.Device(mx.gpu))
    with pytest.raises(ValueError, match="Only supports the GPU"):
        call(kernel, stream=mx.cpu)


def test_math_modes_are_accepted() -> None:
    for mode in ("safe", "relaxed", "fast"):
        metal_kernel("m", [], ["o"], "", compile_options={"math_mode": mode})


def test_too_many_threads() -> None:
    kernel = metal_kernel("m", ["a"], ["o"], "o[0] = a[0];")
    with pytest.raises(ValueError, match=r"Thread group size \(2048\) is greater than"):
        call(kernel, grid=(8, 1, 1), threadgroup=(2048, 1, 1))
