"""Every way to store a weight, through every operation that takes one, against MLX's decoding."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.embedding import embedding, embedding_reference
from bessemer.kernels.linear.linear import gated_linear, linear, linear_reference
from bessemer.kernels.linear.linear_mlx import Epilogue
from bessemer.kernels.linear.superblocks import SUPERBLOCKS
from bessemer.kernels.linear.weight import (
    Mode,
    Packed,
    Quantized,
    Weight,
    arrays_of,
    pack,
    pack_pair,
    widen,
    with_arrays,
)
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.moe.moe import Experts, Shared, moe, moe_mlx, moe_reference
from bessemer.kernels.moe.route import Gate, Routing, choose, choose_reference

from ..arrays import GROUPS, close, floats, normal, quantized, same, superblocks, unbiased
from ..tiers import NATIVE, in_turns, use
from .by_heads import head_linear, head_linear_mlx, head_linear_reference

NEW: tuple[Mode, ...] = ("mxfp8", "nvfp4")
AFFINE = [(bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
EXACT, FAST = 2e-5, 1.5e-2  # against the largest value; relative error of the whole


SILU = Epilogue(activation="silu")


def affine(rows: int, columns: int, group: int, bits: int, seed: int = 1) -> Quantized:
    weight = quantized(rows, columns, max(group, 32), bits, seed=seed)
    if group == 16:  # which MLX decodes and does not make: two groups of each, not alike
        assert weight.biases is not None
        scales, biases = (
            mx.repeat(each, 2, axis=1) * mx.tile(mx.array([1.0, 0.75]), each.shape[1])
            for each in (weight.scales, weight.biases)
        )
        weight = replace(weight, scales=scales, biases=biases, group=16)
    return replace(weight, exact=True)


def decoded(weight: Quantized) -> np.ndarray:
    """Return the numbers of a weight by MLX alone."""
    arrays = (weight.weight, weight.scales, weight.biases)
    return np.array(
        mx.dequantize(*arrays, weight.group, weight.bits, weight.mode, dtype=mx.float32)
    )


@pytest.mark.parametrize("mode", NEW)
def test_all_codes_under_all_scales(path: str | None, mode: Mode) -> None:
    """NaN, negative and least scales and codes too; products that float32 holds exactly."""
    group, bits = GROUPS[mode]
    codes = np.arange(256, dtype=np.uint8).repeat(2).reshape(-1, 16).repeat(256, axis=0)
    words = np.ascontiguousarray(codes.reshape(-1, group * 2 * bits // 8)).view(np.uint32)
    scales = np.arange(256, dtype=np.uint8)[:, None].repeat(2, axis=1)
    scales = np.tile(scales, (len(words) // 256, 1))
    weight = Quantized(mx.array(words), mx.array(scales), None, group, bits, mode)
    every = mx.arange(len(words), dtype=mx.int32)
    oracle = decoded(weight)
    assert np.isnan(oracle).any() and (oracle < 0).any()
    out = np.array(embedding(every, weight, mx.float32))
    assert np.array_equal(out, oracle, equal_nan=True)
    assert np.array_equal(np.array(widen(pack(weight))), oracle, equal_nan=True)


@pytest.mark.parametrize("mode", NEW)
@pytest.mark.parametrize("packed", [False, True])
def test_linear(path: str | None, mode: Mode, packed: bool) -> None:
    for outputs, inputs in ((37, 32), (64, 352), (52, 1152)):
        weight = floats(mode, outputs, inputs)
        taken = pack(floats(mode, outputs, inputs)) if packed else weight
        for rows in (1, 13, 60):
            x, bias, residual = normal(rows, inputs), normal(outputs), normal(rows, outputs, seed=3)
            out = linear(x, taken, Epilogue(bias, residual))
            assert close(out, linear_reference(x, weight, Epilogue(bias, residual)), EXACT)
            if path:
                assert same(linear(x[-1:], taken, Epilogue(bias, residual[-1:])), out[-1:])


@pytest.mark.parametrize("packed", [False, True])
def test_rounded_activations(native: str, packed: bool) -> None:
    """Beside mxfp8 they stay as they are: its products are made in floats alone."""
    bounds: dict[Mode, tuple[float, float]] = {"nvfp4": (1e-4, FAST), "mxfp8": (0, EXACT)}
    for mode, (low, high) in bounds.items():
        for outputs, inputs in ((37, 32), (52, 1120)):
            weight, other = (floats(mode, outputs, inputs, exact=False) for _ in range(2))
            taken = pack(other) if packed else other
            for rows in (1, 13, 60):
                x = normal(rows, inputs)
                out = linear(x, taken)
                oracle = np.array(linear_reference(x, weight))
                off = np.sqrt(((out - oracle) ** 2).mean() / (oracle**2).mean())
                assert low <= off < high
                assert same(out[-1:], linear(x[-1:], weight))


@pytest.mark.parametrize("mode", NEW)
def test_gate_and_up(path: str | None, mode: Mode) -> None:
    for outputs in (64, 70):
        x, weight = normal(14, 96), floats(mode, outputs, 96)
        oracle = linear_reference(x, weight, SILU)
        assert close(gated_linear(x, weight, SILU), oracle, EXACT)
        assert close(gated_linear(x, pack(floats(mode, outputs, 96)), SILU), oracle, EXACT)


@pytest.mark.parametrize("mode", GROUPS)
@pytest.mark.parametrize("exact", [False, True])
def test_gate_and_up_in_turns(native: str, mode: Mode, exact: bool) -> None:
    gate, up = floats(mode, 48, 96, exact=exact), floats(mode, 48, 96, 2, exact)
    parts = zip((gate.weight, gate.scales), (up.weight, up.scales), strict=True)
    words, scales = (mx.concatenate(list(pair)) for pair in parts)
    below = replace(gate, weight=words, scales=scales)
    paired = pack_pair(gate, up)
    assert paired is not None
    for rows in (1, 40):
        x = normal(rows, 96)
        assert same(gated_linear(x, paired, SILU), gated_linear(x, below, SILU))


@pytest.mark.parametrize("mode", NEW)
@pytest.mark.parametrize("exact", [False, True])
def test_packed_is_the_same_to_the_last_bit(native: str, mode: Mode, exact: bool) -> None:
    weight, packed = (floats(mode, 52, 320, exact=exact) for _ in range(2))
    packed = pack(packed)
    assert isinstance(packed, Packed)
    assert same(widen(packed), widen(weight))
    for rows in (1, 14, 60):
        assert same(linear(normal(rows, 320), packed), linear(normal(rows, 320), weight))


def mixture(weights: Sequence[Weight]) -> Experts:
    gate, up, down = weights
    return Experts(4, gate, up, down)


def routed(rows: int) -> tuple[mx.array, mx.array]:
    random = np.random.RandomState(rows)
    chosen = np.stack([random.permutation(4)[:2] for _ in range(rows)]).astype(np.int32)
    return mx.array(chosen), mx.array(random.rand(rows, 2).astype(np.float32))


def check_experts(weights: Sequence[Weight], x: mx.array) -> None:
    experts, (chosen, shares) = mixture(weights), routed(x.shape[0])
    oracle = moe_reference(x, experts, (chosen, shares))
    assert close(moe(x, experts, (chosen, shares)), oracle, EXACT)
    assert close(moe_mlx(x, experts, (chosen, shares)), oracle, EXACT)


@pytest.mark.parametrize("mode", GROUPS)
def test_experts(path: str | None, mode: Mode) -> None:
    def weights() -> list[Quantized]:
        shapes = ((4 * 64, 96), (4 * 64, 96), (4 * 96, 64))
        return [floats(mode, *shape, seed=seed) for seed, shape in enumerate(shapes)]

    x = normal(9, 96)
    check_experts(weights(), x)
    experts, (chosen, shares) = mixture(weights()), routed(9)
    if path:
        packed = mixture([pack(weight) for weight in weights()])
        assert same(moe(x, packed, (chosen, shares)), moe(x, experts, (chosen, shares)))


@pytest.mark.parametrize(("bits", "group"), AFFINE)
def test_affine_in_every_operation(path: str | None, bits: int, group: int) -> None:
    columns = 3 * group
    weight, x = affine(40, columns, group, bits), normal(5, columns)
    assert close(linear(x, weight), linear_reference(x, weight), EXACT)
    both = affine(64, columns, group, bits)
    assert close(gated_linear(x, both, SILU), linear_reference(x, both, SILU), EXACT)
    tokens = mx.array([39, 0, -1, 17], mx.int32)
    out = embedding(tokens, weight, mx.float32)
    assert same(out, embedding_reference(tokens, weight, mx.float32))
    check_experts([affine(4 * 128, columns, group, bits, seed=seed) for seed in (1, 2)]
                  + [affine(4 * columns, 128, group, bits, seed=3)], x)  # fmt: skip
    heads = normal(5, 4, columns + 8)
    oracle = head_linear_reference(heads, weight, 8)
    assert close(head_linear(heads, weight, 8), oracle, EXACT)
    assert close(head_linear_mlx(heads, weight, 8), oracle, EXACT)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_in_groups_of_16(path: str | None, bits: int) -> None:
    """GGUF's K types have them; MLX decodes and multiplies them, but has no experts of them."""
    weight, both, x = affine(40, 96, 16, bits), affine(64, 96, 16, bits), normal(5, 96)
    for exact, limit in ((True, EXACT), (False, FAST)):
        weight, both = replace(weight, exact=exact), replace(both, exact=exact)
        assert close(linear(x, weight), linear_reference(x, weight), limit)
        assert close(gated_linear(x, both, SILU), linear_reference(x, both, SILU), limit)
    numbers, tokens = np.array(widen(weight)), [39, 0, -1, 17]
    rows = embedding(mx.array(tokens, mx.int32), weight, mx.float32)
    assert np.array_equal(np.array(rows), numbers[tokens])
    wanted = linear_reference(x, replace(weight, exact=True))
    mx.eval(wanted)
    assert close(linear(x, pack(replace(weight, exact=True))), wanted, EXACT)


FROM_GGUF: list[tuple[Mode, int]] = [
    ("iq4_nl", 4),
    *(("symmetric", bits) for bits in (4, 5, 8)),
    *((mode, kind.bits) for mode, kind in SUPERBLOCKS.items()),  # type: ignore[misc]
]


def held(
    mode: Mode, bits: int, rows: int, seed: int = 1, exact: bool = True, columns: int = 512
) -> Quantized:
    if mode in SUPERBLOCKS:
        return superblocks(mode, rows, columns, seed, exact)
    return unbiased(mode, bits, rows, columns, seed, exact)


EVERYWHERE = [(path, *case) for path in (*NATIVE[:1], None) for case in FROM_GGUF]


@pytest.mark.parametrize(
    ("tier", "mode", "bits"),
    [*EVERYWHERE, *((tier, *case) for tier, case in in_turns(FROM_GGUF))],
)
def test_gguf_storage_in_every_operation(
    monkeypatch: pytest.MonkeyPatch, tier: str | None, mode: Mode, bits: int
) -> None:
    use(monkeypatch, tier)
    x = normal(5, 512)
    for exact, limit in ((True, EXACT), (False, FAST)):
        weight, both = (held(mode, bits, rows, exact=exact) for rows in (40, 64))
        for rows in (1, 41):
            many = normal(rows, 512)
            assert close(linear(many, weight), linear_reference(many, weight), limit)
        assert close(gated_linear(x, both, SILU), linear_reference(x, both, SILU), limit)
    numbers, tokens = np.array(widen(weight)), [39, 0, -1, 17]
    rows_of = embedding(mx.array(tokens, mx.int32), weight, mx.float32)
    assert np.array_equal(np.array(rows_of), numbers[tokens])
    experts = [held(mode, bits, 4 * 256, seed, columns=256) for seed in (1, 2, 3)]
    check_experts(experts, normal(5, 256) / 100)
    heads, weight = normal(5, 4, 520), held(mode, bits, 4 * 16)
    oracle = head_linear_reference(heads, weight, 8)
    assert close(head_linear(heads, weight, 8), oracle, EXACT)
    assert close(head_linear_mlx(heads, weight, 8), oracle, EXACT)


@pytest.mark.parametrize(("mode", "bits"), FROM_GGUF)
def test_gguf_storage_is_packed_to_the_last_bit(native: str, mode: Mode, bits: int) -> None:
    for exact in (True, False):
        weight, other = (held(mode, bits, 52, exact=exact) for _ in range(2))
        packed = pack(other)
        assert np.array_equal(np.array(widen(packed)), np.array(widen(weight)))
        for rows in (14, 60):
            x = normal(rows, 512)
            out = linear(x, packed)
            assert same(out, linear(x, weight))
            assert same(linear(x[-1:], packed), out[-1:])
        gate, up = (held(mode, bits, 48, seed, exact) for seed in (1, 2))
        pairs = zip(arrays_of(gate), arrays_of(up), strict=True)
        below = with_arrays(gate, [mx.concatenate(list(pair)) for pair in pairs])
        paired = pack_pair(gate, up)
        assert paired is not None
        assert same(gated_linear(x, paired, SILU), gated_linear(x, below, SILU))


@pytest.mark.parametrize("mode", GROUPS)
def test_heads(path: str | None, mode: Mode) -> None:
    x, weight = normal(5, 4, 100), floats(mode, 64, 96)
    oracle = head_linear_reference(x, weight, 4)
    assert close(head_linear(x, weight, 4), oracle, EXACT)
    assert close(head_linear_mlx(x, weight, 4), oracle, EXACT)


@pytest.mark.parametrize("mode", NEW)
def test_on_metal_mlx_multiplies(mode: Mode) -> None:
    """No kernel of ours knows the format: none may be launched for it."""
    weight = floats(mode, 64, 64)
    experts = replace(mixture([floats(mode, 4 * 64, 64) for _ in range(3)]), shared=None)
    shared = Shared(floats(mode, 64, 64), floats(mode, 64, 32))
    chosen, shares = routed(3)
    x = normal(3, 64)
    with using(Simulator(SimulatorOptions("check"))), watching() as launches:
        for rows in (1, 3):
            out = linear(x[:rows], weight)
            assert close(out, linear_reference(x[:rows], weight), EXACT)
            out = gated_linear(x[:rows], weight, SILU)
            assert close(out, linear_reference(x[:rows], weight, SILU), EXACT)
        for each in (experts, replace(experts, shared=shared)):
            out = moe(x, each, (chosen, shares))
            assert close(out, moe_reference(x, each, (chosen, shares)), EXACT)
        rows_of = embedding(mx.array([3, 5], mx.int32), weight, mx.float32)
        assert np.array_equal(np.array(rows_of), decoded(weight)[[3, 5]])
        heads = normal(2, 4, 64)
        out = head_linear(heads, weight)
        assert close(out, head_linear_reference(heads, weight), EXACT)
        assert {launch.source.name for launch in launches} == {"activation"}  # has no weight
        router = Routing(2)
        weights = choose(x, Gate(weight), router)[1]
        assert close(weights, choose_reference(x, Gate(weight), router)[1], EXACT)
        assert launches[-1].source.name == "route"
