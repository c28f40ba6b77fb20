"""The Metal text that MLX builds around a kernel's body, byte for byte, and what each argument is.

After mlx/backend/common/metal_kernel.cpp (MLX 0.32): the tests compare with what MLX exports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

CONSTANT_SIZE = 8  # inputs with fewer elements are in the constant address space
MAX_BUFFERS = 31  # of a Metal function

TYPE_NAMES = {
    mx.bool_: "bool",
    mx.uint8: "uint8_t",
    mx.uint16: "uint16_t",
    mx.uint32: "uint32_t",
    mx.uint64: "uint64_t",
    mx.int8: "int8_t",
    mx.int16: "int16_t",
    mx.int32: "int32_t",
    mx.int64: "int64_t",
    mx.float16: "float16_t",
    mx.bfloat16: "bfloat16_t",
    mx.float32: "float",
    mx.complex64: "complex64_t",
}

# Each is a parameter of the kernel where its name occurs in the source; the order is MLX's.
ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": "uint",
    "dispatch_simdgroups_per_threadgroup": "uint",
    "dispatch_threads_per_threadgroup": "uint3",
    "grid_origin": "uint3",
    "grid_size": "uint3",
    "quadgroup_index_in_threadgroup": "uint",
    "quadgroups_per_threadgroup": "uint",
    "simdgroup_index_in_threadgroup": "uint",
    "simdgroups_per_threadgroup": "uint",
    "thread_execution_width": "uint",
    "thread_index_in_quadgroup": "uint",
    "thread_index_in_simdgroup": "uint",
    "thread_index_in_threadgroup": "uint",
    "thread_position_in_grid": "uint3",
    "thread_position_in_threadgroup": "uint3",
    "threadgroup_position_in_grid": "uint3",
    "threadgroups_per_grid": "uint3",
    "threads_per_grid": "uint3",
    "threads_per_simdgroup": "uint",
    "threads_per_threadgroup": "uint3",
}

TemplateValue = bool | int | mx.Dtype
Role = Literal["input", "shape", "strides", "ndim", "output"]
SHAPE_TYPES: dict[Role, str] = {
    "shape": "const constant int*",
    "strides": "const constant int64_t*",
    "ndim": "const constant int&",
}


@dataclass(frozen=True, slots=True)
class Definition:
    """A kernel as `metal_kernel` was told of it."""

    name: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    source: str
    header: str
    atomic_outputs: bool


@dataclass(frozen=True, slots=True)
class Operand:
    """The part of an input that the text depends on."""

    dtype: mx.Dtype
    scalar: bool
    small: bool

    @staticmethod
    def of(array: mx.array) -> "Operand":
        return Operand(array.dtype, array.ndim == 0, array.size < CONSTANT_SIZE)


@dataclass(frozen=True, slots=True)
class Argument:
    """One buffer of the function: `index` is the input's or the output's."""

    role: Role
    index: int
    name: str
    type: str  # with the `*` or `&`


@dataclass(frozen=True, slots=True)
class Signature:
    """The function's text is header + opening + source + closing."""

    function: str
    template: str
    opening: str
    closing: str
    arguments: tuple[Argument, ...]
    attributes: tuple[str, ...]


def sign(
    definition: Definition,
    inputs: Sequence[Operand],
    output_dtypes: Sequence[mx.Dtype],
    template: Sequence[tuple[str, TemplateValue]],
) -> Signature:
    arguments = (*_inputs(definition, inputs), *_outputs(definition, output_dtypes))
    attributes = tuple(name for name in ATTRIBUTES if name in definition.source)
    values = f"<{', '.join(_value(value) for _, value in template)}>" if template else ""
    function = _function(definition.name, values, inputs, output_dtypes)
    parameters = ", ".join(f"{_kind(value)} {name}" for name, value in template)
    opening = f"template <{parameters}>\n" if template else ""
    opening += f"[[kernel]] void {function}(\n"
    opening += _parameters(arguments, attributes, len(inputs) + len(output_dtypes))
    instance = f"{function}{values}"
    instantiation = (
        f'\ntemplate [[host_name("{function}")]] [[kernel]] decltype({instance}) {instance};\n'
    )
    closing = "\n}\n" + (instantiation if template else "")
    return Signature(function, values, opening, closing, arguments, attributes)


def text(definition: Definition, signature: Signature) -> str:
    """Return what MLX compiles, after its own preamble."""
    return definition.header + signature.opening + definition.source + signature.closing


def _inputs(definition: Definition, inputs: Sequence[Operand]) -> list[Argument]:
    arguments: list[Argument] = []
    for index, (name, operand) in enumerate(zip(definition.input_names, inputs, strict=True)):
        space = "constant" if operand.small else "device"
        mark = "&" if operand.scalar else "*"
        type_name = f"const {space} {TYPE_NAMES[operand.dtype]}{mark}"
        arguments.append(Argument("input", index, name, type_name))
        if operand.scalar:
            continue
        for role, type_name in SHAPE_TYPES.items():
            if f"{name}_{role}" in definition.source:
                arguments.append(Argument(role, index, f"{name}_{role}", type_name))
    return arguments


def _outputs(definition: Definition, dtypes: Sequence[mx.Dtype]) -> list[Argument]:
    pattern = "device atomic<{}>*" if definition.atomic_outputs else "device {}*"
    return [
        Argument("output", index, name, pattern.format(TYPE_NAMES[dtype]))
        for index, (name, dtype) in enumerate(zip(definition.output_names, dtypes, strict=True))
    ]


def _parameters(arguments: Sequence[Argument], attributes: Sequence[str], arrays: int) -> str:
    """List the parameters as MLX does, which ends early if there are shapes and no attributes."""
    pieces = [
        f"  {argument.type} {argument.name} [[buffer({number})]]"
        + (",\n" if argument.role != "output" or number < arrays - 1 or attributes else ") {\n")
        for number, argument in enumerate(arguments)
    ]
    last = [f"  {ATTRIBUTES[name]} {name} [[{name}]]" for name in attributes]
    return "".join(pieces) + ",\n".join(last) + (") {\n" if last else "")


def _function(
    name: str, values: str, inputs: Sequence[Operand], output_dtypes: Sequence[mx.Dtype]
) -> str:
    hashed = values.replace("<", "_").replace(">", "_").replace(", ", "_").replace("-", "_")[:-1]
    parts = [f"custom_kernel_{name}", *([hashed] if values else [])]
    for operand in inputs:
        mark = "s" if operand.scalar else "c" if operand.small else ""
        parts.append(TYPE_NAMES[operand.dtype] + mark)
    return "_".join([*parts, *(TYPE_NAMES[dtype] for dtype in output_dtypes)])


def _value(value: TemplateValue) -> str:
    return TYPE_NAMES[value] if isinstance(value, mx.Dtype) else str(int(value))


def _kind(value: TemplateValue) -> str:
    if isinstance(value, mx.Dtype):
        return "typename"
    return "bool" if isinstance(value, bool) else "int"
