"""What a launch moves and computes, by its name and shapes.

A launch moves each of its arrays once; the tables have those that do not read all of an array, or
compute more than an operation an element. tests/kernels/simulator/test_launch_cost.py holds the
rules of our kernels against what the simulator counts. Of MLX's kernels they are a reading of its
sources: weights, scales and activations once.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

from .clock import Launch
from .hollow import StandIn
from .pending import Operand, Pending

PAGE = 32  # tokens of a page (attention/pages.py), which a pool has last or next to it
HEADER = 4  # numbers before a row's pages in attention's `step`
TILE = 32  # rows of MLX's tiles
SORTED_TILE = 16  # pairs of one expert in a tile of MLX's, which takes sorted pairs of SORTED_FROM
SORTED_FROM = 4  # an expert, and at least as many as a tile has; else each pair reads its expert
RESULTS = 8  # of a threadgroup of MLX's products of few rows
LONG = 1024  # keys from which on MLX shares a head's out among threadgroups
EACH, THREADS = 4, 1024  # elements of a thread, threads of a group in MLX's plain kernels
POOLS = ("keys", "values", "key_scales", "key_biases", "value_scales", "value_biases")
LATENTS = ("pool", "pool_scales", "pool_biases")


@dataclass(slots=True)
class Sizes:
    """What no shape tells: tokens of each sequence's context (0: as many as its pages hold)."""

    context: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A launch's arrays; those of a kernel of ours by the names of its parameters."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    named: Mapping[str, Operand]
    parameters: Mapping[str, Any]
    sizes: Sizes

    @property
    def out(self) -> Operand:
        return self.outputs[0]

    def bytes(self, without: tuple[str, ...] = ()) -> int:
        """Return the bytes of all arrays but those inputs, each once."""
        left_out = {self.named[name].root for name in without if name in self.named}
        each = {one.root: one for one in self.inputs if one.root not in left_out}
        return sum(one.nbytes for one in (*each.values(), *self.outputs))

    def of(self, *names: str) -> int:
        return sum(self.named[name].nbytes for name in names if name in self.named)


Cost = tuple[int, float]  # bytes moved, and operations


def _plain(call: Call) -> Cost:
    return call.bytes(), float(sum(each.size for each in call.outputs))


def _product(call: Call) -> Cost:
    """A row's product with a weight, (outputs, inputs) in whatever form."""
    x, weight = call.named["x"], call.named["weight"]
    return call.bytes(), 2.0 * x.size * weight.shape[0]


def _head_product(call: Call) -> Cost:
    rows, sizes = call.named["x"].shape[0], ("HEADS", "INPUTS", "OUTPUTS")
    return call.bytes(), 2.0 * rows * prod(call.parameters[name] for name in sizes)


def _attention(call: Call) -> Cost:
    """Decoding rows: a row reads its context, and writes its next tail, which is half full."""
    step, keys = call.named["step"], call.named["keys"]
    rows = step.shape[0]
    context = _context(call, step.shape[1] - HEADER)
    tails = tuple(name for name in call.named if name.startswith("tail_"))
    moved = call.bytes((*POOLS, *tails)) - _half(call.outputs[1:])
    moved += rows * context * sum(_a_token(call, name) for name in POOLS)
    heads = call.parameters["G"] * keys.shape[1]
    dims = call.parameters["D"] + call.parameters["V"]
    return moved, 2.0 * rows * heads * dims * context


def _latent_attention(call: Call) -> Cost:
    rows = call.out.shape[0]
    context = _context(call, call.named["tables"].size // rows)  # of few pages it is padded
    tails = ("tail", "tail_scales", "tail_biases")
    moved = call.bytes((*LATENTS, *tails)) - _half(call.outputs[2:])
    moved += rows * context * sum(_a_token(call, name) for name in LATENTS)
    dims = call.parameters["D"] + call.parameters["V"]
    return moved, 2.0 * rows * call.parameters["HEADS"] * dims * context


def _context(call: Call, pages: int) -> int:
    held = max(pages, 1) * PAGE - PAGE // 2
    return min(call.sizes.context, held + PAGE // 2) if call.sizes.context else held


def _a_token(call: Call, name: str) -> int:
    """Return the bytes of a token in a pool; 0 for what stands for a part that it lacks."""
    pool = call.named.get(name)
    if pool is None or len(pool.shape) < 4:
        return 0
    return prod(pool.shape[1:]) // PAGE * pool.dtype.size


def _half(tails: tuple[Operand, ...]) -> int:
    return sum(each.nbytes for each in tails) // 2


def _prefill_attention(call: Call) -> Cost:
    q, keys = call.named["q"], call.named["keys"]
    rows, context = q.shape[0], keys.shape[1]
    seen = rows * (context - min(rows, context) / 2)
    heads = call.parameters["HEADS"]
    return call.bytes(), 2.0 * seen * heads * (call.parameters["D"] + call.parameters["V"])


def _written_twice(call: Call) -> Cost:
    """Pages gathered: as many bytes as they become."""
    return 2 * sum(each.nbytes for each in call.outputs), 0.0


def _appended(call: Call) -> Cost:
    new = call.of("k", "v", "latent")
    return 2 * new, float(new)


def _inner_experts(call: Call) -> Cost:
    stacks = ("gate", "gate_scales", "gate_biases", "up", "up_scales", "up_biases")
    return _experts(call, stacks, call.parameters["WIDTH"], 2)


def _outer_experts(call: Call) -> Cost:
    return _experts(call, ("down", "scales", "biases"), call.parameters["HIDDEN"], 1)


def _experts(call: Call, stacks: tuple[str, ...], height: int, matrices: int) -> Cost:
    """Few tokens: each pair of token and expert reads its expert; shared experts are read once."""
    (rows, picks), sizes = call.named["chosen"].shape, call.parameters
    count = call.named[stacks[0]].shape[0] // height
    moved = call.bytes(stacks) + call.of(*stacks) * rows * picks // count
    width = picks * sizes["WIDTH"] + sizes["SHARED"]
    return moved, 2.0 * rows * matrices * width * sizes["HIDDEN"]


def _inner_tiles(call: Call) -> Cost:
    stacks = ("gate", "gate_scales", "gate_biases", "up", "up_scales", "up_biases")
    return _tiled(call, "x", stacks, 2)


def _outer_tiles(call: Call) -> Cost:
    return _tiled(call, "inner", ("down", "scales", "biases"), 1)


def _tiled(call: Call, rows: str, stacks: tuple[str, ...], matrices: int) -> Cost:
    """A prompt: each tile of pairs reads its expert, and its pairs' rows."""
    pairs, experts = call.named["order"].size, call.named["offsets"].size - 1
    tile = call.parameters["TILE"]
    tiles = _tiles(experts, pairs, tile)
    x, size = call.named[rows], call.parameters["HIDDEN"] * call.parameters["WIDTH"]
    moved = call.bytes((*stacks, rows)) + int(call.of(*stacks) * tiles / experts)
    moved += pairs * x.shape[-1] * x.dtype.size
    return moved, 2.0 * matrices * tiles * tile * size


def _tiles(experts: int, pairs: int, tile: int) -> float:
    """Return the tiles that an expert's pairs fill, for all experts, if all are as likely.

    That an expert has so many pairs is a matter of Poisson's distribution.
    """
    each = pairs / experts
    chance, below, tiles = math.exp(-each), 0.0, 0.0
    for count in range(pairs):
        below += chance
        chance *= each / (count + 1)
        if count % tile == 0:
            tiles += 1 - below
    return experts * tiles


def _router(call: Call) -> Cost:
    sizes = call.parameters
    return call.bytes(), 2.0 * call.named["x"].shape[0] * sizes["HIDDEN"] * sizes["EXPERTS"]


def _mlx_product(call: Call) -> Cost:
    return call.bytes(), 2.0 * call.out.size * call.inputs[0].shape[-1]


def _mlx_gathered(call: Call) -> Cost:
    """Experts in a stack, chosen by an array of integers.

    Sorted pairs go in tiles of one expert, others read theirs one by one (GatherQMM::eval_gpu and
    affine_gather_qmm_rhs in MLX 0.32's backend/metal).
    """
    indices, stacks = call.inputs[-1], call.inputs[1:-1]
    experts, pairs = stacks[0].shape[0], indices.size
    tiled = call.parameters.get("sorted_indices") and call.out.shape[-2] == 1
    tiled = tiled and pairs >= SORTED_TILE and pairs // experts >= SORTED_FROM
    read = _tiles(experts, pairs, SORTED_TILE) if tiled else pairs
    moved = call.inputs[0].nbytes + call.out.nbytes + indices.nbytes
    moved += int(read / experts * sum(each.nbytes for each in stacks))
    rows = read * SORTED_TILE if tiled else call.out.size / call.out.shape[-1]
    return moved, 2.0 * rows * call.out.shape[-1] * call.inputs[0].shape[-1]


def _mlx_attention(call: Call) -> Cost:
    q, k, v = call.inputs[:3]
    rows, context = q.shape[2], k.shape[2]
    seen = rows * (context - (min(rows, context) - 1) / 2)
    return call.bytes(), 2.0 * q.shape[0] * q.shape[1] * seen * (k.shape[3] + v.shape[3])


def _taken(call: Call) -> Cost:
    """Rows taken out of an array."""
    indices = sum(each.nbytes for each in call.inputs[1:])
    return 2 * call.out.nbytes + indices, 0.0


def _put(call: Call) -> Cost:
    """An update of part of an array, in place: MLX does so where nothing else refers to it."""
    return 2 * min(each.nbytes for each in call.inputs[1:2]), 0.0


def _scattered(call: Call) -> Cost:
    return 2 * call.inputs[-1].nbytes, 0.0


def _embedded(call: Call) -> Cost:
    """The rows of a quantized matrix that tokens name."""
    parts = [call.named[name] for name in ("weight", "scales", "biases")]
    each = {part.root: part.nbytes // part.shape[0] for part in parts}  # of a row
    rows, tokens = call.out.shape[0], call.of("tokens")
    return rows * sum(each.values()) + call.out.nbytes + tokens, float(call.out.size)


OURS: Mapping[str, Callable[[Call], Cost]] = MappingProxyType(
    {
        "linear": _product,
        "linear_dense": _product,
        "linear_rows": _product,
        "head_linear": _head_product,
        "embedding": _embedded,
        "attention": _attention,
        "attention_tail": _attention,
        "attention_quantized": _attention,
        "attention_quantized_tail": _attention,
        "latent_attention": _latent_attention,
        "prefill_attention": _prefill_attention,
        "gather_keys": _written_twice,
        "gather_values": _written_twice,
        "append_pages": _appended,
        "latent_append": _appended,
        "moe_inner": _inner_experts,
        "moe_outer": _outer_experts,
        "moe_inner_tiles": _inner_tiles,
        "moe_outer_tiles": _outer_tiles,
        "choose": _router,
    }
)
MLX: Mapping[str, Callable[[Call], Cost]] = MappingProxyType(
    {
        "quantized_matmul": _mlx_product,
        "matmul": _mlx_product,
        "addmm": _mlx_product,
        "gather_qmm": _mlx_gathered,
        "gather_mm": _mlx_gathered,
        "scaled_dot_product_attention": _mlx_attention,
        "Gather": _taken,
        "GatherAxis": _taken,
        "SliceUpdate": _put,
        "DynamicSliceUpdate": _put,
        "Scatter": _scattered,
        "ScatterAxis": _scattered,
    }
)
BY_ROW = frozenset(("rms_norm", "layer_norm", "ArgReduce", "LogSumExp", "Softmax", "Reduce"))


def launch_of(pending: Pending, kinds: Mapping[int, StandIn], sizes: Sizes) -> Launch:
    """Return a launch's cost, and what decides when it can run."""
    kind = None if pending.mark is None else kinds[pending.mark]
    name = pending.name if kind is None else kind.name
    ours = kind is not None and bool(kind.names)
    named = dict(zip(kind.names, pending.inputs, strict=True)) if kind and ours else {}
    parameters = {} if kind is None else kind.parameters
    call = Call(pending.inputs, pending.outputs, named, parameters, sizes)
    moved, flops = (OURS if ours else MLX).get(name, _plain)(call)
    binds = {each.root: each.elements for each in (*pending.inputs, *pending.outputs)}
    return Launch(
        name, moved, flops, _threadgroups(name, kind, call), pending.waits, tuple(binds.items())
    )


def _threadgroups(name: str, kind: StandIn | None, call: Call) -> int:
    """Return how many threadgroups work on it: of MLX's kernels, as its sources launch them."""
    if kind is not None and kind.grid is not None and kind.threadgroup is not None:
        return prod(-(-n // size) for n, size in zip(kind.grid, kind.threadgroup, strict=True))
    x = call.inputs[0] if call.inputs else call.out
    if name == "scaled_dot_product_attention":
        return prod(x.shape[:2]) * max(1, x.shape[2] // TILE, call.inputs[1].shape[2] // LONG)
    if name in MLX and kind is not None:  # a product: by rows, or by tiles of 32 by 32
        rows = call.out.size // call.out.shape[-1]
        return -(-call.out.shape[-1] // RESULTS) if rows < TILE else call.out.size // TILE**2
    if name in BY_ROW:
        return max(1, x.size // x.shape[-1])
    return max(1, call.out.size // (EACH * THREADS))
