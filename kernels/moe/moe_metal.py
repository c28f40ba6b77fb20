"""The experts on Metal take two launches for a few tokens, four for a prompt's tiles of pairs."""

from enum import Enum
from typing import TYPE_CHECKING

import mlx.core as mx

from ..linear.activation import ACTIVATIONS, IN_METAL
from ..linear.linear_metal import is_restored
from ..linear.linear_mlx import Residual
from ..linear.weight import Quantized, Weight
from ..linear.weight_metal import FLOATS, MetalWeight, as_metal, metal_weight
from ..metal.library import kernel, nothing, scalar
from ..norm.rms_norm import Norm
from .route import MAX_EXPERTS, MAX_PAIRS, Picks, sorted_pairs

if TYPE_CHECKING:
    from .moe import Experts, Shared

INNER_ROWS, INNER_THREADS = 8, 64  # of the experts' width, in a threadgroup of moe_inner
OUTER_ROWS, OUTER_THREADS = 4, 128
INNER_TILE, OUTER_TILE, TILE_THREADS = 32, 64, 128
COLUMNS, COMBINE_THREADS = 4, 256  # a thread of moe_combine adds up so many

# Pairs of token and expert, for each expert there is. Below, few experts are read twice; above,
# MLX's own product of sorted pairs comes within a fifth of a dense one, and loses little at its
# tiles' edges. What has no tiles is left to MLX from where it has some (4). What MLX has no
# product of it would restore whole, all experts: that goes in tiles however many pairs there are.
TILED_FROM, TILED_BELOW, GATHERED_BELOW = 2, 128, 4
# The pairs of a tile by those of an expert, the first that it is below: a GPU reads an expert's
# matrices in the time that it multiplies about 10 pairs by them, so lower tiles only read more.
TILES = ((6, 8), (48, 16))
TALLEST = 32


class Way(Enum):
    GATHERED = "each pair reads its expert"
    TILED = "tiles of one expert's pairs"
    MLX = "MLX's gathered products"


def way(x: mx.array, experts: "Experts", chosen: mx.array) -> Way:
    """Choose how these pairs go through the experts."""
    if experts.gate is None or experts.activation not in IN_METAL:
        return Way.MLX
    read = _alike(experts.gate, experts.up) and as_metal(experts.down) is not None
    if not read or not chosen.size or x.dtype not in FLOATS:
        return Way.MLX
    each, matrices = chosen.size // experts.count, (experts.up, experts.down)
    sortable = experts.count <= MAX_EXPERTS and chosen.size <= MAX_PAIRS
    tiled = sortable and all(isinstance(weight, Quantized) for weight in matrices)
    if each < (TILED_FROM if tiled else GATHERED_BELOW):
        return Way.GATHERED
    in_mlx = not any(map(is_restored, matrices))
    if tiled:
        return Way.TILED if each < TILED_BELOW or not in_mlx else Way.MLX
    return Way.MLX if in_mlx else Way.GATHERED


def _alike(*weights: Weight) -> bool:
    """Say whether one kernel takes all of these."""
    first, *others = map(as_metal, weights)
    return first is not None and all(
        other is not None and other.template == first.template for other in others
    )


def is_alike(experts: "Experts") -> bool:
    """Say whether shared experts, if there are any, can go through the chosen ones' launches."""
    shared = experts.shared
    if shared is None:
        return True
    if not shared.is_gated:
        return False
    return _alike(experts.up, shared.gate_up) and _alike(experts.down, shared.down)


def moe_gathered(
    x: mx.array,
    experts: "Experts",
    shared: "Shared | None",
    picks: Picks,
    residual: Residual = None,
    norm: Norm | None = None,
) -> mx.array:
    """Run `moe` for a few tokens; shared experts are stored alike (`is_alike`)."""
    inner = _gathered_inner(x, experts, shared, picks[0], norm)
    down = metal_weight(experts.down)
    extra = down if shared is None else metal_weight(shared.down)
    (y,) = kernel("moe_decode", "moe_outer")(
        [
            inner,
            *picks,
            *down.arrays,
            _or_unused(experts.down_bias),
            *extra.arrays,
            x if residual is None else residual,
        ],
        [(x.shape, x.dtype)],
        (experts.hidden // OUTER_ROWS * OUTER_THREADS, x.shape[0], 1),
        (OUTER_THREADS, 1, 1),
        T=x.dtype,
        HIDDEN=experts.hidden,
        WIDTH=experts.width,
        SHARED=0 if shared is None else shared.width,
        PICKS=picks[0].shape[1],
        BIASED=experts.down_bias is not None,
        RESIDUAL=residual is not None,
        **down.template,
    )
    return y


def _gathered_inner(
    x: mx.array, experts: "Experts", shared: "Shared | None", chosen: mx.array, norm: Norm | None
) -> mx.array:
    """Return (rows, k * width + the shared experts' width), activated, the shared ones' last."""
    gate, up = _gate(experts), metal_weight(experts.up)
    extra = gate if shared is None else metal_weight(shared.gate_up)
    shared_gate = None if shared is None else shared.gate
    (rows, k), wide = chosen.shape, 0 if shared is None else shared.width
    (inner,) = kernel("moe_decode", "moe_inner")(
        [
            x,
            chosen,
            x if norm is None else norm.weight,
            scalar(0.0 if norm is None else norm.eps),
            *gate.arrays,
            *up.arrays,
            _or_unused(experts.gate_bias),
            _or_unused(experts.up_bias),
            scalar(experts.limit),
            *extra.arrays,
            x if shared_gate is None else shared_gate.astype(x.dtype),
        ],
        [((rows, k * experts.width + wide), x.dtype)],
        (-(-experts.width // INNER_ROWS) * INNER_THREADS, k - (-wide // experts.width), rows),
        (INNER_THREADS, 1, 1),
        T=x.dtype,
        N=x.dtype if norm is None else norm.weight.dtype,
        HIDDEN=experts.hidden,
        WIDTH=experts.width,
        SHARED=wide,
        PICKS=k,
        ACTIVATION=ACTIVATIONS[experts.activation],
        BIASED=experts.gate_bias is not None,
        NORMED=norm is not None,
        GATED=shared_gate is not None,
        **gate.template,
    )
    return inner


def moe_tiled(x: mx.array, experts: "Experts", picks: Picks, residual: Residual = None) -> mx.array:
    """Run `moe` without shared experts, for a prompt's tokens and quantized experts."""
    chosen, weights = picks
    rows, k = chosen.shape
    tile = tile_of(chosen.size // experts.count)
    _, _, tiles = pairs = sorted_pairs(chosen, experts.count, tile)
    inner = _inner_tiles(x, experts, k, pairs, tile)
    down = metal_weight(experts.down)
    (parts,) = kernel("moe_prefill", "moe_outer_tiles")(
        [inner, *pairs, *down.arrays, _or_unused(experts.down_bias)],
        [((rows * k, experts.hidden), x.dtype)],
        (-(-experts.hidden // OUTER_TILE) * TILE_THREADS, tiles.size // 2, 1),
        (TILE_THREADS, 1, 1),
        T=x.dtype,
        HIDDEN=experts.hidden,
        WIDTH=experts.width,
        BIASED=experts.down_bias is not None,
        TILE=tile,
        **down.codes,
    )
    (y,) = kernel("moe_prefill", "moe_combine")(
        [parts, weights, x if residual is None else residual],
        [(x.shape, x.dtype)],
        (experts.hidden // COLUMNS, rows, 1),
        (COMBINE_THREADS, 1, 1),
        T=x.dtype,
        HIDDEN=experts.hidden,
        PICKS=k,
        RESIDUAL=residual is not None,
    )
    return y


def tile_of(each: int) -> int:
    """Return the pairs of a tile where an expert has `each` on average."""
    return next((tile for below, tile in TILES if each < below), TALLEST)


def _inner_tiles(
    x: mx.array, experts: "Experts", k: int, pairs: tuple[mx.array, mx.array, mx.array], tile: int
) -> mx.array:
    """Return (pairs, width), activated, in the order of experts."""
    order, _, tiles = pairs
    gate, up = _gate(experts), metal_weight(experts.up)
    (inner,) = kernel("moe_prefill", "moe_inner_tiles")(
        [
            *(x, *pairs, *gate.arrays, *up.arrays),
            *(_or_unused(bias) for bias in (experts.gate_bias, experts.up_bias)),
            scalar(experts.limit),
        ],
        [((order.size, experts.width), x.dtype)],
        (-(-experts.width // INNER_TILE) * TILE_THREADS, tiles.size // 2, 1),
        (TILE_THREADS, 1, 1),
        T=x.dtype,
        HIDDEN=experts.hidden,
        WIDTH=experts.width,
        PICKS=k,
        ACTIVATION=ACTIVATIONS[experts.activation],
        BIASED=experts.gate_bias is not None,
        TILE=tile,
        **gate.codes,
    )
    return inner


def _gate(experts: "Experts") -> MetalWeight:
    assert experts.gate is not None
    return metal_weight(experts.gate)


def _or_unused(bias: mx.array | None) -> mx.array:
    return nothing() if bias is None else bias
