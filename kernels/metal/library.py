"""The operations' Metal kernels: read from their files, built once a device, launched."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from .device import Device, Gpu, Simulator, device
from .source import Source, metal_files, sources

if TYPE_CHECKING:  # the simulator is loaded where it is used
    from ..simulator.kernel import MetalKernel
    from ..simulator.report import DispatchReport

SMALLEST = 8  # elements; MLX hands smaller arrays over in constant memory, with another signature

Value = int | bool | mx.Dtype
Output = tuple[Sequence[int], mx.Dtype]
Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Launch:
    """One dispatch in the simulator, for those who count."""

    source: Source
    grid: Size
    threadgroup: Size
    report: "DispatchReport"
    code: Callable[[], str]  # what it compiles to there, as LLVM's text


_watched: ContextVar[tuple[list[Launch], ...]] = ContextVar("watched", default=())


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A kernel of a .metal file; `in_place` names inputs whose constness it casts away."""

    source: Source
    in_place: tuple[str, ...] = ()

    def __call__(
        self,
        inputs: Sequence[mx.array],
        outputs: Sequence[Output],
        grid: Size,
        threadgroup: Size,
        **template: Value,
    ) -> list[mx.array]:
        """Inputs and outputs in the order of the file's parameters; grid counts threads.

        Template values by name, all of them.
        """
        where = device()
        assert where is not None and template.keys() == {name for _, name in self.source.template}
        assert len(inputs) == len(self.source.inputs) and len(outputs) == len(self.source.outputs)
        built = _built(self, where)
        values = [(name, template[name]) for _, name in self.source.template]
        made: list[mx.array] = built(
            inputs=list(inputs),
            output_shapes=[tuple(shape) for shape, _ in outputs],
            output_dtypes=[dtype for _, dtype in outputs],
            grid=grid,
            threadgroup=threadgroup,
            template=values,
        )
        if _watched.get() and isinstance(where, Simulator):
            _note(self.source, built, inputs, outputs, values, (grid, threadgroup))
        return made


def _note(
    source: Source,
    built: "MetalKernel",
    inputs: Sequence[mx.array],
    outputs: Sequence[Output],
    template: list[tuple[str, Value]],
    sizes: tuple[Size, Size],
) -> None:
    from ..simulator.kernel import compiled_ir

    dtypes = [dtype for _, dtype in outputs]
    code = partial(compiled_ir, built, inputs=list(inputs), output_dtypes=dtypes, template=template)
    launch = Launch(source, *sizes, built.report, code)
    for launches in _watched.get():
        launches.append(launch)


@cache
def kernel(operation: str, name: str = "", in_place: tuple[str, ...] = ()) -> Kernel:
    """The kernel of that name (by default the operation's) in OPERATION.metal."""
    return Kernel(sources(metal_files()[f"{operation}.metal"])[name or operation], in_place)


@contextmanager
def watching() -> Iterator[list[Launch]]:
    """Notes the launches of the block, for whoever watches around it too."""
    launches: list[Launch] = []
    token = _watched.set((*_watched.get(), launches))
    try:
        yield launches
    finally:
        _watched.reset(token)


@lru_cache(maxsize=4096)
def scalar(value: float, dtype: mx.Dtype = mx.float32) -> mx.array:
    """A parameter `constant T& name`: made once, since making an array costs a microsecond."""
    made = mx.array(value, dtype)
    mx.eval(made)
    return made


@lru_cache(maxsize=256)
def nothing(dtype: mx.Dtype = mx.float32, value: int = 0, size: int = SMALLEST) -> mx.array:
    """For an input that a kernel's template says is not there."""
    made = mx.full((size,), value, dtype)
    mx.eval(made)
    return made


def padded(values: mx.array) -> mx.array:
    """At least 8 elements, so that a kernel sees them in device memory whatever their number."""
    short = SMALLEST - values.size
    if short <= 0:
        return values
    return mx.concatenate([values.reshape(-1), mx.zeros((short,), values.dtype)])


@cache
def _built(kernel: Kernel, where: Device) -> Any:
    source = kernel.source
    parts = (source.name, source.inputs, source.outputs, source.body_text, source.header_text)
    name, inputs, outputs, body, header = parts
    if isinstance(where, Simulator):
        from ..simulator.kernel import metal_kernel

        return metal_kernel(
            name,
            inputs,
            outputs,
            body,
            header,
            options=where.options,
            in_place=kernel.in_place,
        )
    assert isinstance(where, Gpu)
    built: Any = mx.fast.metal_kernel  # MLX's stubs say that it gives an object
    made: Callable[..., list[mx.array]] = built(name, list(inputs), list(outputs), body, header)
    return made
