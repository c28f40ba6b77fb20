"""`mx.fast.metal_kernel` on a machine without Metal: compiled for the CPU, run thread by thread.

A CPU model of Metal: not Apple's compiler, not a GPU. It counts what a kernel does and finds what
Metal leaves undefined; it says nothing of time.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from .arrays import Extent, extent_of, viewed
from .compiler import CompiledKernel, kernel_library
from .host import host_text
from .launch import CheckedCall, Size, check_aliases, launch
from .options import MetalCompileError, Mode, SimulatorError, SimulatorOptions
from .reorder import Recorded, copies, note
from .report import DispatchReport
from .signature import MAX_BUFFERS, Definition, Operand, Signature, TemplateValue, sign, text
from .standalone import compiled_text

MAX_THREADS = 1024  # in a threadgroup
LARGEST = (1 << 31) - 1  # integer in a template
INCOMPATIBLE = "__call__(): incompatible function arguments:"
MATH_MODES = ("safe", "relaxed", "fast")
RUN_AGAIN = frozenset(("out-of-bounds", "fault"))  # the check mode adds the line

Scalar = bool | int | float | complex
Input = mx.array | Scalar | np.ndarray | np.generic


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    compile_options: Mapping[str, object] | None = None,
    *,
    options: SimulatorOptions = SimulatorOptions(),  # noqa: B008 - frozen
    in_place: Sequence[str] = (),
) -> "MetalKernel":
    """Return what `mx.fast.metal_kernel` would; inputs in `in_place` may be written to.

    The math modes of `compile_options` change nothing here: all are "safe".
    """
    if not output_names:
        raise ValueError("[metal_kernel] Must specify at least one output.")
    _check_compile_options(compile_options)
    _check_options(options)
    unknown = set(in_place) - set(input_names)
    if unknown:
        raise ValueError(f"[simulator] in_place names no input: {', '.join(sorted(unknown))}")
    definition = Definition(
        name, tuple(input_names), tuple(output_names), source, header, atomic_outputs
    )
    written = frozenset(definition.input_names.index(each) for each in in_place)
    return MetalKernel(definition, ensure_row_contiguous, options, written)


def _check_compile_options(options: Mapping[str, object] | None) -> None:
    if options is None:
        return
    if not isinstance(options, dict):
        raise ValueError("[metal_kernel] Expected `compile_options` to be a dict.")
    for name, value in options.items():
        if name != "math_mode":
            raise ValueError(f"[metal_kernel] Unknown compile option `{name}`.")
        if value not in MATH_MODES:
            raise ValueError(
                "[metal_kernel] Expected math_mode to be 'safe', 'relaxed', or 'fast'."
            )


def _check_options(options: SimulatorOptions) -> None:
    size = options.line_bytes
    if not 16 <= size <= 4096 or size & (size - 1):
        raise ValueError(f"[simulator] line_bytes is {size}: a power of two of 16 to 4096")


class MetalKernel:
    """A kernel, called as MLX's own is; its `report` is that of the last call."""

    def __init__(
        self,
        definition: Definition,
        ensure_row_contiguous: bool,
        options: SimulatorOptions,
        in_place: frozenset[int],
    ) -> None:
        self.definition = definition
        self.options = options
        self.in_place = in_place
        self._ensure_row_contiguous = ensure_row_contiguous
        self._report: DispatchReport | None = None
        self._signatures: dict[object, Signature] = {}
        self._libraries: dict[tuple[Signature, Mode], CompiledKernel] = {}

    @property
    def report(self) -> DispatchReport:
        if self._report is None:
            raise SimulatorError(f"[simulator] kernel '{self.definition.name}' has not run")
        return self._report

    def __call__(
        self,
        *,
        inputs: Sequence[Input],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: Size,
        threadgroup: Size,
        template: Sequence[tuple[str, TemplateValue]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: object = None,
    ) -> list[mx.array]:
        arrays = [_array(value) for value in inputs]
        values = _template(template or ())
        _check_types(output_dtypes, (grid, threadgroup), init_value)
        self._check_sizes(arrays, output_shapes, output_dtypes)
        _check_stream(stream)
        signature = self.signature(arrays, output_dtypes, values)
        if verbose:
            generated = text(self.definition, signature)
            print(f"Generated source code for `{self.definition.name}`:\n```\n{generated}\n```")
        call = CheckedCall(
            definition=self.definition,
            signature=signature,
            inputs=self._laid_out(arrays),
            in_place=self.in_place,
            output_shapes=[tuple(shape) for shape in output_shapes],
            output_dtypes=list(output_dtypes),
            grid=grid,
            threadgroup=_group(threadgroup, grid),
            init_value=init_value,
            options=self.options,
        )
        check_aliases(call)
        before = copies(arrays, self.in_place)
        outputs = self._run(call)
        arguments = {
            "output_shapes": output_shapes,
            "output_dtypes": output_dtypes,
            "grid": grid,
            "threadgroup": threadgroup,
            "template": template,
            "init_value": init_value,
        }
        note(Recorded(self, tuple(inputs), self.in_place, before, tuple(outputs), arguments))
        return outputs

    def _run(self, call: CheckedCall) -> list[mx.array]:
        mode = self.options.mode
        outcome = launch(call, self._library(call.signature, mode), mode)
        self._report = outcome.report
        if not outcome.problem:
            return outcome.outputs
        if mode == "fast" and outcome.kinds & RUN_AGAIN:
            again = launch(call, self._library(call.signature, "check"), "check")
            raise SimulatorError(again.problem or outcome.problem)
        raise SimulatorError(outcome.problem)

    def signature(
        self,
        arrays: Sequence[mx.array],
        output_dtypes: Sequence[mx.Dtype],
        template: Sequence[tuple[str, TemplateValue]],
    ) -> Signature:
        operands = tuple(Operand.of(array) for array in arrays)
        kinds = tuple((name, type(value), value) for name, value in template)
        key = (operands, tuple(output_dtypes), kinds)
        if key not in self._signatures:
            signature = sign(self.definition, operands, output_dtypes, template)
            if len(signature.arguments) > MAX_BUFFERS:
                raise SimulatorError(
                    f"[simulator] kernel '{self.definition.name}' has {len(signature.arguments)} "
                    f"buffers: Metal allows {MAX_BUFFERS}"
                )
            self._signatures[key] = signature
        return self._signatures[key]

    def _library(self, signature: Signature, mode: Mode) -> CompiledKernel:
        key = (signature, mode)
        if key not in self._libraries:
            written = host_text(self.definition, signature, self.options.language)
            try:
                self._libraries[key] = kernel_library(written, mode, self.options.flags)
            except MetalCompileError as error:
                raise MetalCompileError(
                    f"[simulator] kernel '{self.definition.name}' does not compile:\n{error}"
                ) from None
        return self._libraries[key]

    def _laid_out(self, arrays: Sequence[mx.array]) -> list[Extent]:
        """Return the inputs' memory, row-contiguous by a copy if so asked, as MLX does."""
        mx.eval(arrays)
        views = [viewed(array) for array in arrays]
        for index in self.in_place:
            if not views[index].flags.c_contiguous:
                raise SimulatorError(
                    f"[simulator] input {self.definition.input_names[index]} is written in place: "
                    "it must be row-contiguous"
                )
        if self._ensure_row_contiguous:
            for index, view in enumerate(views):
                if not view.flags.c_contiguous:
                    views[index] = viewed(mx.contiguous(arrays[index]))
        return [extent_of(view) for view in views]

    def _check_sizes(
        self,
        arrays: Sequence[mx.array],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
    ) -> None:
        inputs, outputs = self.definition.input_names, self.definition.output_names
        for name, count, expected in (
            ("inputs", len(arrays), len(inputs)),
            ("output_shapes", len(output_shapes), len(outputs)),
            ("output_dtypes", len(output_dtypes), len(outputs)),
        ):
            if count != expected:
                raise ValueError(
                    f"[metal_kernel] Expected `{name}` to have size {expected} "
                    f"but got size {count}.\n"
                )


def compiled_ir(
    kernel: MetalKernel,
    *,
    inputs: Sequence[Input],
    output_dtypes: Sequence[mx.Dtype],
    template: Sequence[tuple[str, TemplateValue]] | None = None,
) -> str:
    """Return LLVM's text of one specialisation: equal texts mean that the code is the same."""
    arrays = [_array(value) for value in inputs]
    signature = kernel.signature(arrays, output_dtypes, _template(template or ()))
    written = host_text(kernel.definition, signature, kernel.options.language)
    return compiled_text(written, kernel.options.flags)


def _array(value: Input) -> mx.array:
    if isinstance(value, mx.array):
        return value
    if value is None:
        raise TypeError(f"{INCOMPATIBLE} an input is None")
    if not isinstance(value, bool | int | float | complex | np.ndarray | np.generic):
        raise ValueError(f"Invalid type {type(value).__name__} received in array initialization.")
    number: Any = value  # MLX's stubs know only Python's numbers
    return mx.array(number)


def _template(
    template: Sequence[tuple[str, TemplateValue]],
) -> tuple[tuple[str, TemplateValue], ...]:
    for _, value in template:
        if not isinstance(value, bool | int | mx.Dtype) or (
            isinstance(value, int) and not -LARGEST - 1 <= value <= LARGEST
        ):
            raise ValueError(
                "[metal_kernel] Invalid template argument. "
                "Must be `mlx.core.Dtype`, `int` or `bool`."
            )
    return tuple((name, value) for name, value in template)


def _check_types(
    output_dtypes: Sequence[mx.Dtype], sizes: Sequence[Size], init_value: float | None
) -> None:
    """Raise TypeError for types that MLX, called in C++, does not take."""
    right = all(isinstance(dtype, mx.Dtype) for dtype in output_dtypes)
    right &= all(len(size) == 3 and all(isinstance(n, int) for n in size) for size in sizes)
    if not right or not isinstance(init_value, float | int | None):
        raise TypeError(f"{INCOMPATIBLE} {output_dtypes}, {sizes}, {init_value!r}")


def _check_stream(stream: object) -> None:
    device = stream.device if isinstance(stream, mx.Stream) else stream
    if isinstance(device, mx.Device):
        device = device.type
    if device is not None and device != mx.DeviceType.gpu:
        raise ValueError("[metal_kernel] Only supports the GPU.")


def _group(threadgroup: Size, grid: Size) -> Size:
    size = math.prod(threadgroup)
    if size > MAX_THREADS:
        raise ValueError(
            f"Thread group size ({size}) is greater than "
            f" the maximum allowed threads per threadgroup ({MAX_THREADS})."
        )
    if min(*threadgroup, *grid) < 0:
        raise ValueError(f"[simulator] a size is negative: {threadgroup}, {grid}")
    x, y, z = map(min, threadgroup, grid)
    return x, y, z
