"""Stand-ins for kernels: nodes of MLX's graph that depend on their inputs and compute nothing.

So a GPU's path runs where there is none, and on it are the right shapes in the right order. A call
costs the host what the real one would: what a stand-in's own Python costs more or less is measured
at its first call, and charged to the clock at each.
"""

import ctypes
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import mlx.core as mx

from .pending import MARK

COMPILE = mx.compile
ROUNDS, CALLS = 5, 40  # of the measurement of a call
NO_FUSE, FUSE = 2, 3  # MLX's CompileMode
SET_COMPILE_MODE = "_ZN3mlx4core16set_compile_modeENS0_11CompileModeE"
# What MLX's compiler joins to one kernel (compile.cpp), by the names of nodes.
FUSED = frozenset(
    (
        *("Abs", "ArcCos", "ArcSin", "ArcTan", "AsType", "Ceil", "Cos", "Cosh", "Erf", "Exp"),
        *("Floor", "Log", "Log1p", "LogicalNot", "Negative", "Rsqrt", "Sqrt", "Round", "Sigmoid"),
        *(
            "Sign",
            "Sin",
            "Sinh",
            "Square",
            "Tan",
            "Tanh",
            "Expm1",
            "Log2",
            "Log10",
            "BitwiseInvert",
        ),
        *("Add", "Divide", "Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "LogAddExp"),
        *("LogicalAnd", "LogicalOr", "Maximum", "Minimum", "Multiply", "NotEqual", "Power"),
        *("Remainder", "Subtract", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "LeftShift"),
        *("RightShift", "Select", "Broadcast"),
    )
)

Form = tuple[tuple[int, ...], mx.Dtype]
Size = tuple[int, int, int]


class Charged(Protocol):
    """Whoever is told what a stand-in's call should have cost the host besides."""

    def charge(self, seconds: float) -> None: ...

    def paused(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class StandIn:
    """A kernel that a node stands for; `names` are its inputs' where they have some."""

    name: str
    names: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    grid: Size | None = None
    threadgroup: Size | None = None
    text: int = 0  # bytes of source, which MLX hashes at each launch


@dataclass(frozen=True, slots=True)
class Known:
    """A stand-in that was called before: its mark, what its outputs are, and its charge."""

    mark: mx.array
    outputs: tuple[mx.array, ...]
    charge: float


@lru_cache(maxsize=4096)
def zeros(shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    """Return an evaluated array of one zero in memory, as many times as asked for."""
    out = mx.broadcast_to(mx.zeros((), dtype), shape)
    REAL_EVAL(out)
    return out


REAL_EVAL = mx.eval


def cost(call: Callable[[], object]) -> float:
    """Return the thread's seconds for a call, the least of some rounds."""
    least = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(CALLS):
            call()
        least = min(least, time.thread_time() - began)
    return least / CALLS


class Hollow:
    """Makes stand-ins, and knows them by the numbers in their nodes."""

    def __init__(self, clock: Charged) -> None:
        self.kinds: dict[int, StandIn] = {}
        self._clock = clock
        self._known: dict[Hashable, Known] = {}
        self._tracing = False  # a compiled function

    def metal_kernel(
        self,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str = "",
        **options: Any,
    ) -> Callable[..., list[mx.array]]:
        """Stand for `mx.fast.metal_kernel`."""
        names = tuple(input_names)
        build: Any = METAL_KERNEL
        real = build(name, list(names), list(output_names), source, header, **options)
        text = len(source) + len(header)

        def launch(
            *,
            inputs: list[mx.array],
            output_shapes: Sequence[Sequence[int]],
            output_dtypes: Sequence[mx.Dtype],
            grid: Size,
            threadgroup: Size,
            template: Sequence[tuple[str, Any]] = (),
            **others: Any,
        ) -> list[mx.array]:
            forms = (*map(tuple, output_shapes), *output_dtypes)
            key = (launch, forms, grid, threadgroup, *template)
            known = self._known.get(key)
            if known is None:
                kind = StandIn(name, names, dict(template), grid, threadgroup, text)
                call: dict[str, Any] = {"grid": grid, "threadgroup": threadgroup}
                call |= {"inputs": inputs, "template": [*template]}
                call |= {"output_shapes": output_shapes, "output_dtypes": output_dtypes}
                outputs = list(zip(map(tuple, output_shapes), output_dtypes, strict=True))
                in_a_trace = partial(cost_in_a_trace, partial(real, **call, **others))
                known = self._learn(key, kind, outputs, in_a_trace, partial(launch, **call))
            self._clock.charge(known.charge)
            return depends(known.outputs, [*inputs, known.mark])

        return launch

    def standing_for(self, name: str, real: Callable[..., mx.array]) -> Callable[..., mx.array]:
        """Stand for an operation of MLX's whose graph is one node here as it is on a GPU.

        The real one is called for its shape and for what a call costs, and forgotten.
        """

        @wraps(real)
        def stand(*arguments: Any, **options: Any) -> mx.array:
            out = real(*arguments, **options)
            arrays = _arrays(arguments, options)
            key = (name, out.shape, *(each.shape for each in arrays))
            known = self._known.get(key)
            if known is None:
                kind = StandIn(name, parameters=_plain(options))
                again = partial(stand, *arguments, **options)
                real_call = partial(cost, partial(real, *arguments, **options))
                known = self._learn(key, kind, [(out.shape, out.dtype)], real_call, again)
            self._clock.charge(known.charge)
            return depends(known.outputs, [*arrays, known.mark])[0]

        return stand

    def single(self, name: str, form: Callable[..., Form]) -> Callable[..., mx.array]:
        """Stand for an operation that is one node on a GPU and several here; `form` is its output.

        A call costs what one node does.
        """

        def stand(*arguments: Any, **options: Any) -> mx.array:
            arrays = _arrays(arguments, options)
            key = (name, *(each.shape for each in arrays))
            known = self._known.get(key)
            if known is None:
                kind = StandIn(name, parameters=_plain(options))
                out = form(*arguments, **options)
                node = partial(depends, (zeros(*out),), arrays)
                again = partial(stand, *arguments, **options)
                known = self._learn(key, kind, [out], partial(cost, node), again)
            self._clock.charge(known.charge)
            return depends(known.outputs, [*arrays, known.mark])[0]

        return stand

    def compile(self, function: Any = None, **options: Any) -> Any:
        """Stand for `mx.compile`: what it joins to one kernel is one node, other graphs stay."""
        if function is None:
            return lambda each: self.compile(each, **options)
        compiled = COMPILE(function, **options)
        joined: dict[Hashable, bool] = {}
        state = "inputs" in options or "outputs" in options
        stand = self.standing_for(getattr(function, "__name__", "compiled"), compiled)

        @wraps(function)
        def call(*arguments: Any, **more: Any) -> Any:
            if self._tracing:  # one that another calls becomes part of it
                return function(*arguments, **more)
            arrays = [each for each in arguments if isinstance(each, mx.array)]
            key = tuple(each.ndim for each in arrays)
            with self._traced():
                if key not in joined:
                    plain = not state and not more and len(arrays) == len(arguments)
                    with self._clock.paused():
                        joined[key] = plain and is_joined(function, arrays)
                if joined[key]:
                    return stand(*arguments)
                with without_fusion():
                    return compiled(*arguments, **more)

        return call

    @contextmanager
    def _traced(self) -> Iterator[None]:
        self._tracing = True
        try:
            yield
        finally:
            self._tracing = False

    def _learn(
        self,
        key: Hashable,
        kind: StandIn,
        forms: Sequence[Form],
        real: Callable[[], float],
        again: Callable[[], object],
    ) -> Known:
        """Give a stand-in its number, and find what its calls cost against the real one's."""
        with self._clock.paused():
            number = len(self.kinds)
            self.kinds[number] = kind
            mark = mx.array(number, MARK)
            outputs = tuple(zeros(*form) for form in forms)
            self._known[key] = Known(mark, outputs, 0.0)
            known = Known(mark, outputs, real() - cost(again))
            self._known[key] = known
        return known


METAL_KERNEL = mx.fast.metal_kernel


def depends(outputs: Sequence[mx.array], inputs: Sequence[mx.array]) -> list[mx.array]:
    out: list[mx.array] = mx.depends(list(outputs), list(inputs))
    return out


def cost_in_a_trace(call: Callable[[], object]) -> float:
    """Return what a call of a Metal kernel costs: without Metal, only a trace takes it."""
    seconds: list[float] = []

    def trace() -> mx.array:
        seconds.append(cost(call))
        return mx.zeros((1,))

    mx.export_function(lambda _: None, trace)
    return seconds[0]


def is_joined(function: Callable[..., Any], arrays: Sequence[mx.array]) -> bool:
    """Return whether MLX's compiler would make one kernel of a function of arrays like these."""
    names: set[str] = set()
    outputs: list[int] = []

    def note(part: dict[str, Any]) -> None:
        if part["type"] == "primitive":
            names.add(part["name"])
        elif part["type"] == "outputs":
            outputs.append(len(part["outputs"]))

    mx.export_function(note, function, *(zeros(each.shape, each.dtype) for each in arrays))
    return outputs == [1] and names <= FUSED


@contextmanager
def without_fusion() -> Iterator[None]:
    """Within the block MLX compiles without joining nodes: of joined ones it tells no inputs."""
    library = ctypes.CDLL(str(next((Path(mx.__file__).parent / "lib").glob("libmlx.*"))))
    set_mode = library[SET_COMPILE_MODE]
    set_mode(ctypes.c_int(NO_FUSE))
    try:
        yield
    finally:
        set_mode(ctypes.c_int(FUSE))


def normed(x: mx.array, *_: Any, **__: Any) -> Form:
    return x.shape, x.dtype


def attended(q: mx.array, k: mx.array, v: mx.array, *_: Any, **__: Any) -> Form:
    return (*q.shape[:-1], v.shape[-1]), q.dtype


def widened(codes: mx.array, scales: mx.array, *_: Any, **options: Any) -> Form:
    """Return the output of `mx.dequantize`."""
    columns = codes.shape[-1] * 32 // (options.get("bits") or 4)
    return (*codes.shape[:-1], columns), options.get("dtype") or scales.dtype


# MLX's operations that are too much for this CPU; of mlx.core.fast, and others, that are several
# nodes on it.
PRODUCTS = ("quantized_matmul", "gather_qmm", "gather_mm", "matmul", "addmm")
FAST: Mapping[str, Callable[..., Form]] = MappingProxyType(
    {
        "rms_norm": normed,
        "layer_norm": normed,
        "rope": normed,
        "scaled_dot_product_attention": attended,
    }
)
SPELLED_OUT: Mapping[str, Callable[..., Form]] = MappingProxyType({"dequantize": widened})


def _arrays(arguments: Sequence[Any], options: Mapping[str, Any]) -> list[mx.array]:
    return [each for each in (*arguments, *options.values()) if isinstance(each, mx.array)]


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in options.items() if not isinstance(each, mx.array)}
