"""The forms of Metal kernels that no edge of an operation launches, as arguments that launch them.

A form is what decides a kernel's text: how weights and pages are stored, which parts a layer has,
which tiles a size leads to. Any two of a kernel's settings meet in some arguments (`pairs`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from types import MappingProxyType
from typing import Any

import mlx.core as mx
import numpy as np

from .attention import attention, decoding
from .attention.attention import layout_of, pool_of, tables_for
from .attention.pages import PAGE, Append, Format, Heads
from .attention.rope import rope_table
from .linear.activation import IN_METAL
from .linear.linear_mlx import Epilogue
from .linear.superblocks import SUPERBLOCKS, VALUES
from .linear.superblocks import Mode as Superblocks
from .linear.weight import Dense, Quantized, Weight, middle
from .moe.moe import Experts, Shared
from .moe.route import Gate, Routing
from .norm.rms_norm import Norm
from .pairs import pairs
from .recurrent.conv1d import Convolution
from .recurrent.gated_delta import Rule
from .recurrent.runs import Runs
from .recurrent.ssm_scan import Scan
from .registry import Arguments
from .sampling.edit import Edits, EditTable
from .sampling.sample import Draws

FLOATS = (mx.float32, mx.float16, mx.bfloat16)
EPS = 1e-5
SPLIT = (26, 18 * PAGE)  # tokens before a step; threadgroups share the second sequence's
Settings = Mapping[str, Sequence[Any]]
# How weights are stored that kernels take; 0 bits are dense. What is stored is of any type.
AFFINE: Settings = {"bits": (2, 3, 4, 5, 6, 8), "group": (32, 64, 128), "stored": FLOATS}
MXFP4: Settings = {"bits": (4,), "group": (32,), "mode": ("mxfp4",)}
DENSE: Settings = {"bits": (0,), "stored": FLOATS}
# GGUF's types: in superblocks, or groups without biases.
K: Settings = {"mode": tuple(SUPERBLOCKS)}
IN_GROUPS: Settings = {"group": (32,), "stored": (mx.float16,)}
SYMMETRIC: Settings = {**IN_GROUPS, "bits": (4, 5, 8), "mode": ("symmetric",)}
TABLE: Settings = {**IN_GROUPS, "bits": (4,), "mode": ("iq4_nl",)}
CODED = (AFFINE, MXFP4, K, SYMMETRIC, TABLE)
STORAGES = (*CODED, DENSE)
# What becomes of superblocks whose columns are moved, of which one layer has some.
FINE: Settings = {"bits": (2, 3, 6), "group": (16,), "stored": (mx.float32,)}
MOVED = (FINE, {**TABLE, "stored": (mx.float32,)})
ACTIVATED = tuple(sorted(IN_METAL))
GAINS = (None, *FLOATS)  # of a norm before the product
YES_AND_NO = (False, True)
SMALLEST_GROUP = 32  # that MLX makes


def random(*shape: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    return mx.random.normal(shape).astype(dtype)


def weight_of(outputs: int, inputs: int, each: Mapping[str, Any]) -> Weight:
    """Make a random weight, stored as these settings say."""
    mode, stored = each.get("mode", "affine"), each.get("stored", mx.float32)
    if mode in SUPERBLOCKS:
        return superblocks(outputs, inputs, mode)
    bits = each["bits"]
    if not bits:
        return Dense(random(outputs, inputs, dtype=stored))
    group = each["group"]
    if mode in ("symmetric", "iq4_nl") or group < SMALLEST_GROUP:
        scales = (mx.random.uniform(0.5, 1, (outputs, inputs // group)) / 2**bits).astype(stored)
        biases = scales * -middle(bits) if mode == "affine" else None
        return Quantized(_words(outputs, inputs * bits // 32), scales, biases, group, bits, mode)
    codes, scales, *biases = mx.quantize(
        random(outputs, inputs, dtype=stored), group, bits, mode=mode
    )
    return Quantized(codes, scales, biases[0] if biases else None, group, bits, mode)


def superblocks(outputs: int, inputs: int, mode: Superblocks) -> Quantized:
    """Make a random weight of such a mode, with values of about 1."""
    kind, blocks = SUPERBLOCKS[mode], inputs // VALUES
    size = 2.0 ** -(kind.bits + 5)
    factors = (mx.random.uniform(0.5, 1, (outputs, blocks * kind.factors)) * size).astype(
        mx.float16
    )
    codes = _words(outputs, inputs * kind.bits // 32)
    return Quantized(
        codes, _words(outputs, blocks * kind.words), factors, kind.group, kind.bits, mode
    )


def _words(*shape: int) -> mx.array:
    return mx.random.randint(0, 0xFFFFFFFF, shape, mx.uint32)


def inputs_for(each: Mapping[str, Any]) -> int:
    """Return the fewest inputs that do for a weight of these settings, but for a few groups."""
    return VALUES if each.get("mode") in SUPERBLOCKS else 128


def _of(dtype: mx.Dtype, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the combinations that fall to one dtype of activations, which is a setting too."""
    return (each for each in pairs({"dtype": FLOATS, **settings}) if each["dtype"] == dtype)


def _stored(
    dtype: mx.Dtype, settings: Settings, storages: Sequence[Settings] = STORAGES
) -> Iterator[dict[str, Any]]:
    for storage in storages:
        yield from _of(dtype, {**storage, **settings})


def _norm(width: int, gain: mx.Dtype | None) -> Norm | None:
    return None if gain is None else Norm(mx.ones((width,), gain), EPS)


# Rows and outputs: one row, by how many simdgroups share a weight's rows; few, by tiles.
ONE_ROW, FEW_ROWS = (
    ((1, 18), (1, 1300), (1, 5200)),
    ((2, 2), (3, 18), (12, 18), (12, 2056), (3, 4104), (3, 8200), (12, 8200)),
)
ODD = 33  # inputs of dense rows that begin nowhere in particular


def _linear(dtype: mx.Dtype) -> Iterator[Arguments]:
    plain = {"residual": YES_AND_NO, "activation": (None,)}
    return _products(dtype, plain)


def _gated_linear(dtype: mx.Dtype) -> Iterator[Arguments]:
    return _products(dtype, {"residual": (False,), "activation": ACTIVATED})


def _products(dtype: mx.Dtype, epilogues: Settings) -> Iterator[Arguments]:
    for sizes in (ONE_ROW, FEW_ROWS):
        settings = {"size": sizes, "gain": GAINS, "bias": YES_AND_NO, **epilogues}
        for each in _stored(dtype, settings, (*STORAGES, *MOVED)):
            yield _product(dtype, inputs_for(each), each)
    settings = {"size": ONE_ROW, "gain": GAINS, "bias": YES_AND_NO, **epilogues}
    for each in _stored(dtype, settings, (DENSE,)):
        yield _product(dtype, ODD, each)
    small = {"bits": 4, "group": 64, "size": (2, 2), "bias": True, "gain": None}
    for residual in epilogues["residual"]:  # few values, which are in constant memory
        extra = {"residual": residual, "activation": epilogues["activation"][0]}
        yield _product(dtype, 128, small | extra)


def _product(dtype: mx.Dtype, inputs: int, each: Mapping[str, Any]) -> Arguments:
    rows, outputs = each["size"]
    bias = random(outputs, dtype=dtype) if each["bias"] else None
    residual = random(rows, outputs, dtype=dtype) if each["residual"] else None
    epilogue = Epilogue(bias, residual, each["activation"])
    x, weight = random(rows, inputs, dtype=dtype), weight_of(outputs, inputs, each)
    return x, weight, epilogue, _norm(inputs, each["gain"])


def _embedding(dtype: mx.Dtype) -> Iterator[Arguments]:
    for each in _stored(dtype, {"tokens": (3, 9)}, (*CODED, *MOVED)):
        weight = weight_of(9, inputs_for(each), each)
        yield mx.arange(each["tokens"], dtype=mx.int32), weight, dtype


def _head_linear(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield heads of sizes by which a row has 1 to 32 lanes, with one set of results and two."""
    wide = tuple((rows, 128 << n, out) for n in range(4) for rows, out in ((1, 64), (3, 64)))
    narrow = tuple((rows, 32 << n, out) for n in range(2) for rows, out in ((1, 64), (3, 64)))
    settings = {"rest": (0, 64)}
    small = {**AFFINE, "group": (32,), "size": narrow}
    others = ({**each, "size": (*narrow, *wide)} for each in (MXFP4, SYMMETRIC, TABLE, DENSE))
    most = ({**AFFINE, "size": wide}, {**K, "size": wide[2:]})
    for each in _stored(dtype, settings, (*most, small, *others)):
        (rows, inputs, outputs), rest = each["size"], each["rest"]
        weight = weight_of(2 * outputs, inputs, each)
        yield random(rows, 2 * (inputs + rest), dtype=dtype), weight, 2, rest


def _rms_norm(dtype: mx.Dtype) -> Iterator[Arguments]:
    for width, gain, summed in product((33, 64), FLOATS, YES_AND_NO):
        x = random(2, width, dtype=dtype)
        yield x, mx.ones((width,), gain), EPS, x if summed else None


def _experts(count: int, each: Mapping[str, Any]) -> Experts:
    width = hidden = inputs_for(each)
    gate, up, down = (weight_of(count * width, width, each) for _ in range(3))
    experts = Experts(count, gate, up, down, activation=each["activation"])
    if each["biased"]:
        first, second, last = (random(count, size) for size in (width, width, hidden))
        mx.eval(first, second, last)
        experts = replace(experts, gate_bias=first, up_bias=second, down_bias=last)
    if (shared := each.get("shared")) is not None:
        its_gate = random(1, hidden) if shared == "gated" else None
        pair, its_down = weight_of(2 * width, hidden, each), weight_of(hidden, width, each)
        experts = replace(experts, shared=Shared(pair, its_down, its_gate))
    return experts


def _moe(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield few tokens, which go through the chosen experts, and a prompt's in tiles.

    A size is of tokens, experts, and how many of these a token chooses.
    """
    both = {"activation": ACTIVATED, "biased": YES_AND_NO, "residual": YES_AND_NO}
    few = {"size": ((2, 4, 2), (4, 8, 2)), "shared": (None, "plain", "gated"), "gain": GAINS}
    many = {"size": ((19, 4, 2), (19, 8, 2), (5, 1, 1), (97, 4, 2)), "gain": (None,)}
    prompts = _stored(dtype, {**both, **many}, CODED)
    for each in chain(_stored(dtype, {**both, **few}), prompts):
        rows, count, k = each["size"]
        chosen = mx.array([[(row + i) % count for i in range(k)] for row in range(rows)], mx.int32)
        hidden = inputs_for(each)
        residual = random(rows, hidden, dtype=dtype) if each["residual"] else None
        picks = (chosen, mx.full((rows, k), 1 / k))
        x = random(rows, hidden, dtype=dtype)
        yield x, _experts(count, each), picks, residual, _norm(hidden, each["gain"])


def _route(dtype: mx.Dtype) -> Iterator[Arguments]:
    for rows, experts in ((1, 4), (3, 32)):
        for correction in (None, random(experts)):
            yield random(rows, experts, dtype=dtype), Routing(2, "sigmoid"), correction


def _choose(dtype: mx.Dtype) -> Iterator[Arguments]:
    settings = {"gain": GAINS, "corrected": YES_AND_NO}
    for each in _stored(
        dtype, settings, (AFFINE, MXFP4, DENSE)
    ):  # of no model is it in superblocks
        correction = random(32) if each["corrected"] else None
        gate = Gate(weight_of(32, 128, each), correction=correction)
        router = Routing(4, "sigmoid" if each["corrected"] else "softmax", groups=4, kept_groups=2)
        yield random(3, 128, dtype=dtype), gate, router, _norm(128, each["gain"])


def _conv1d(dtype: mx.Dtype) -> Iterator[Arguments]:
    settings = {"width": (2, 3, 4), "bias": (False, True), "silu": (False, True)}
    for each in _of(dtype, settings):
        width, channels = each["width"], 9
        bias = random(channels) if each["bias"] else None
        convolution = Convolution(random(width, channels), bias, each["silu"])
        state, runs = random(3, width - 1, channels), Runs.of([3, 1], [2, 0], [True, False])
        yield random(4, channels, dtype=dtype), convolution, state, runs


def _gated_delta(dtype: mx.Dtype) -> Iterator[Arguments]:
    settings = {"dim": (32, 64, 128), "shared": (1, 2), "normalise": (False, True)}
    for each in _of(dtype, settings):
        dim, heads, rows = each["dim"], each["shared"], 3
        q, k = (random(rows, 1, dim, dtype=dtype) / dim for _ in "qk")
        gates = (-mx.random.uniform(shape=(rows, heads)), mx.random.uniform(shape=(rows, heads)))
        state, runs = random(3, heads, dim, dim), Runs.of([2, 1], [2, 0], [True, False])
        rule = Rule(dim**-0.5, each["normalise"])
        yield q, k, random(rows, heads, dim, dtype=dtype), gates, state, runs, rule


def _ssm_scan(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield states of widths that leave a lane fewer and fewer rows."""
    for width, heads in ((16, 1), (64, 2), (128, 2), (256, 4)):
        x = random(3, heads, 16, dtype=dtype)
        b, c = (random(3, 1, width, dtype=dtype) for _ in "bc")
        scan = Scan(random(heads), -mx.random.uniform(shape=(heads,)), random(heads))
        state, runs = random(3, heads, 16, width), Runs.of([2, 1], [2, 0], [True, False])
        yield x, b, c, random(3, heads, dtype=dtype), scan, state, runs


def _sample(dtype: mx.Dtype) -> Iterator[Arguments]:
    draws = Draws(*map(np.array, ([0, 0.7], [0, 5], [1, 0.9], [0, 0], [0.4, 0.4])))
    edits = Edits({0: EditTable(np.array([2]), np.array([[9.0, 1.0, 0.0]]))})
    allowed = np.full((2, 2), 0x55555555, np.uint32)
    yield random(2, 40, dtype=dtype), draws, None, edits
    yield random(2, 40, dtype=dtype), draws, allowed, None


def _attention(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield the widths of heads there are, and many queries to a key, which are shared out."""
    for heads, kv_heads, dim in ((2, 2, 80), (8, 1, 128), (6, 2, 96), (8, 1, 256), (16, 1, 512)):
        layer = Heads(heads, kv_heads, dim, dim**-0.5, dim)
        for format in Format:
            yield attention.case(layer, format, dtype, (33, 1))


def _prefill(dtype: mx.Dtype) -> Iterator[Arguments]:
    for dim, softcap, sinks in product((64, 128, 256), (None, 30.0), YES_AND_NO):
        sink = random(2) if sinks else None
        heads = Heads(2, 1, dim, dim**-0.5, dim, softcap=softcap, sinks=sink, window=20)
        k, v = (random(1, 64, dim, dtype=dtype) for _ in "kv")
        yield random(9, 2, dim, dtype=dtype), k, v, 41, heads


def _latents(each: Mapping[str, Any]) -> Heads:
    value, rope = each["size"]
    norm = mx.ones((value,)) if each["normed"] else None
    return Heads(
        *(16, 1, value + rope, 0.1, value),
        k_norm=norm,
        eps=EPS,
        interleaved=each["interleaved"],
        rope_offset=value,
    )


LATENTS: Settings = {
    "format": tuple(Format),
    "size": ((512, 64), (128, 32), (128, 0)),  # the last without positions
    "interleaved": YES_AND_NO,
    "normed": YES_AND_NO,
}


def _latent_attention(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield a step of rows that decode, over pages that hold their tokens."""
    for each in _of(dtype, LATENTS):
        heads = _latents(each)
        tables = tables_for((33, 1))
        pages = pool_of(tables, (32, 0), heads, 0, each["format"], dtype)
        layout = layout_of(tables, [range(32, 33), range(1)])
        table = rope_table(layout.positions, mx.ones((each["size"][1] // 2,)), 1.0)
        q, latent = (random(2, count * heads.head_dim, dtype=dtype) for count in (16, 1))
        yield q, latent, heads, table, pages, layout


def _decoding(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield steps that append latents and heads of other kinds than the edges' ones."""
    for append in (Append.TAIL, Append.IN_PLACE):
        for each in _of(dtype, LATENTS):
            yield decoding.case(_latents(each), True, each["format"], dtype, append, decoding.SHORT)
        for format in Format:
            yield decoding.case(Heads(2, 1, 128, 0.1, 128), False, format, dtype, append, SPLIT)


VARIANTS: Mapping[str, Callable[[mx.Dtype], Iterator[Arguments]]] = MappingProxyType(
    {
        "linear": _linear,
        "gated_linear": _gated_linear,
        "embedding": _embedding,
        "head_linear": _head_linear,
        "rms_norm": _rms_norm,
        "moe": _moe,
        "route": _route,
        "choose": _choose,
        "conv1d": _conv1d,
        "gated_delta": _gated_delta,
        "ssm_scan": _ssm_scan,
        "sample": _sample,
        "attention": _attention,
        "prefill_attention": _prefill,
        "latent_attention": _latent_attention,
        "decoding": _decoding,
    }
)
