"""The operations' Metal kernels: read from their files, built once a device, launched."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from .device import Gpu, Listing, Simulator, device
from .source import KernelSource, metal_files, sources

if TYPE_CHECKING:  # the simulator is loaded where it is used
    from ..simulator.kernel import MetalKernel as SimulatedKernel
    from ..simulator.report import DispatchReport

SMALLEST = 8  # elements; MLX hands smaller arrays over in constant memory, with another signature

Value = int | bool | mx.Dtype
Output = tuple[Sequence[int], mx.Dtype]
Size = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """One dispatch in the simulator, for those who count."""

    source: KernelSource
    grid: Size
    threadgroup: Size
    report: "DispatchReport"
    code: Callable[[], str]  # what it compiles to there, as LLVM's text


_watched: ContextVar[tuple[list[LaunchRecord], ...]] = ContextVar("watched", default=())
_names: ContextVar[tuple[set[str], ...]] = ContextVar("names", default=())


@dataclass(frozen=True, slots=True, eq=False)
class KernelFunction:
    """A kernel of a .metal file; `in_place` names inputs whose constness it casts away."""

    source: KernelSource
    in_place: tuple[str, ...] = ()

    def __call__(
        self,
        inputs: Sequence[mx.array],
        outputs: Sequence[Output],
        grid: Size,
        threadgroup: Size,
        **template: Value,
    ) -> list[mx.array]:
        """Launch it; inputs and outputs in the order of the file's parameters.

        grid counts threads; template: values by name, all of them.
        """
        return self.bound(outputs, grid, threadgroup, **template)(list(inputs))

    def bound(
        self, outputs: Sequence[Output], grid: Size, threadgroup: Size, **template: Value
    ) -> "BoundKernel":
        """Return the same launch, but for its inputs."""
        names = [name for _, name in self.source.template]
        assert template.keys() == set(names) and len(outputs) == len(self.source.outputs)
        return BoundKernel(
            self,
            {
                "output_shapes": [tuple(shape) for shape, _ in outputs],
                "output_dtypes": [dtype for _, dtype in outputs],
                "grid": grid,
                "threadgroup": threadgroup,
                "template": [(name, template[name]) for name in names],
            },
        )


@dataclass(frozen=True, slots=True, eq=False)
class BoundKernel:
    """A launch but for its inputs: what is the same in every step of the same shapes."""

    kernel: KernelFunction
    arguments: dict[str, Any]

    def __call__(self, inputs: list[mx.array]) -> list[mx.array]:
        """Launch it; inputs in the order of the file's parameters."""
        where = device()
        assert where is not None and len(inputs) == len(self.kernel.source.inputs)
        for names in _names.get():
            names.add(" ".join((self.kernel.source.name, *self.kernel.in_place)))
        if isinstance(where, Gpu):
            on_gpu: list[mx.array] = built_on_gpu(self.kernel)(inputs=inputs, **self.arguments)
            return on_gpu
        if isinstance(where, Listing):
            where.note(self, inputs)
            shapes, dtypes = (self.arguments[f"output_{each}"] for each in ("shapes", "dtypes"))
            return [mx.zeros(*each) for each in zip(shapes, dtypes, strict=True)]
        built = _simulated(self.kernel, where)
        out = built(inputs=inputs, **self.arguments)
        if _watched.get():
            self._note(built, inputs)
        return out

    def _note(self, built: "SimulatedKernel", inputs: list[mx.array]) -> None:
        from ..simulator.kernel import compiled_ir

        template, dtypes = self.arguments["template"], self.arguments["output_dtypes"]
        code = partial(compiled_ir, built, inputs=inputs, output_dtypes=dtypes, template=template)
        sizes = (self.arguments["grid"], self.arguments["threadgroup"])
        record = LaunchRecord(self.kernel.source, *sizes, built.report, code)
        for records in _watched.get():
            records.append(record)


@cache
def kernel(operation: str, name: str = "", in_place: tuple[str, ...] = ()) -> KernelFunction:
    """Return the kernel of that name (by default the operation's) in OPERATION.metal."""
    return KernelFunction(sources(metal_files()[f"{operation}.metal"])[name or operation], in_place)


@contextmanager
def watching() -> Iterator[list[LaunchRecord]]:
    """Note the launches of the block, for whoever watches around it too."""
    launches: list[LaunchRecord] = []
    token = _watched.set((*_watched.get(), launches))
    try:
        yield launches
    finally:
        _watched.reset(token)


@contextmanager
def launching() -> Iterator[set[str]]:
    """Collect the names of the kernels that the block launches, even if it fails at that."""
    names: set[str] = set()
    token = _names.set((*_names.get(), names))
    try:
        yield names
    finally:
        _names.reset(token)


@lru_cache(maxsize=4096)
def scalar(value: float, dtype: mx.Dtype = mx.float32) -> mx.array:
    """Return a parameter `constant T& name`: made once, for making an array costs a microsecond."""
    out = mx.array(value, dtype)
    mx.eval(out)
    return out


@lru_cache(maxsize=256)
def nothing(dtype: mx.Dtype = mx.float32, value: int = 0, size: int = SMALLEST) -> mx.array:
    """Return what stands for an input that a kernel's template says is not there."""
    out = mx.full((size,), value, dtype)
    mx.eval(out)
    return out


def padded(values: mx.array) -> mx.array:
    """Return 8 elements at least: so a kernel sees them in device memory, whatever their number."""
    short = SMALLEST - values.size
    if short <= 0:
        return values
    return mx.concatenate([values.reshape(-1), nothing(values.dtype, size=short)])


@cache
def built_on_gpu(kernel: KernelFunction) -> Any:
    source = kernel.source
    build: Any = mx.fast.metal_kernel  # MLX's stubs say that it gives an object
    names = (source.name, list(source.inputs), list(source.outputs))
    return build(*names, source.body_text, source.header_text)


@cache
def _simulated(kernel: KernelFunction, where: Simulator) -> "SimulatedKernel":
    from ..simulator.kernel import metal_kernel

    source, written = kernel.source, kernel.in_place
    names = (source.name, source.inputs, source.outputs)
    texts = (source.body_text, source.header_text)
    return metal_kernel(*names, *texts, options=where.options, in_place=written)
