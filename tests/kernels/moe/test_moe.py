"""Experts against their definition: sorted and not, packed and not, with biases and without."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.cpu.library import compiled
from bessemer.kernels.linear.activation import Activation, activate_plain_reference
from bessemer.kernels.linear.weight import Dense, Packed, Quantized, Weight, in_mlx, pack, widen
from bessemer.kernels.metal.device import Simulator, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.moe.moe import Experts, Shared, moe, moe_mlx, moe_reference, pack_experts
from bessemer.kernels.norm.rms_norm import Norm

from ..arrays import coded, normal
from ..tiers import NATIVE, loaded, use


@pytest.fixture(params=NATIVE)
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    chosen: str = request.param
    use(monkeypatch, chosen)
    return chosen


def matrix(rows: int, columns: int, bits: int, exact: bool, seed: int) -> Dense | Quantized:
    values = normal(rows, columns, seed=seed) * 0.1
    if not bits:
        return Dense(values)
    words, scales, biases = mx.quantize(values, group_size=32, bits=bits)
    return Quantized(words, scales, biases, 32, bits, exact=exact)


def experts(count: int, hidden: int, width: int, bits: int = 4, exact: bool = True) -> Experts:
    return Experts(
        count,
        matrix(count * width, hidden, bits, exact, 1),
        matrix(count * width, hidden, bits, exact, 2),
        matrix(count * hidden, width, bits, exact, 3),
    )


def routed(rows: int, count: int, k: int) -> tuple[mx.array, mx.array]:
    random = np.random.RandomState(rows)
    chosen = np.stack([random.permutation(count)[:k] for _ in range(rows)]).astype(np.int32)
    return mx.array(chosen), mx.array(random.rand(rows, k).astype(np.float32))


def distance(a: mx.array, b: mx.array) -> float:
    return float(mx.sqrt(mx.mean((a - b) ** 2) / mx.mean(b**2)))


@pytest.mark.parametrize("rows", [1, 2, 13, 60])
@pytest.mark.parametrize(
    ("count", "hidden", "width", "k", "bits"),
    [(4, 64, 32, 1, 4), (5, 96, 64, 3, 8), (3, 64, 96, 2, 3), (4, 40, 24, 2, 0), (1, 64, 32, 1, 4)],
)
def test_the_sum_of_the_chosen(
    rows: int, count: int, hidden: int, width: int, k: int, bits: int
) -> None:
    layer = experts(count, hidden, width, bits)
    x, (chosen, weights) = normal(rows, hidden), routed(rows, count, k)
    oracle = moe_reference(x, layer, (chosen, weights))
    out = moe(x, layer, (chosen, weights))
    assert distance(out, oracle) < 1e-5
    assert distance(moe_mlx(x, layer, (chosen, weights)), oracle) < 1e-5
    unsorted = replace(layer, in_order=False)
    assert (np.array(moe(x, unsorted, (chosen, weights))) == np.array(out)).all()
    assert distance(moe_mlx(x, unsorted, (chosen, weights)), oracle) < 1e-5
    alone = moe(x[-1:], layer, (chosen[-1:], weights[-1:]))
    assert (np.array(alone)[0] == np.array(out)[-1]).all()


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "swiglu_clamped"])
def test_biases_activation_and_residual(activation: Activation) -> None:
    plain = experts(4, 64, 32)
    layer = replace(
        plain,
        gate_bias=normal(4, 32, seed=4),
        up_bias=normal(4, 32, seed=5),
        down_bias=normal(4, 64, seed=6),
        activation=activation,
        limit=1.5,
    )
    x, residual, (chosen, weights) = normal(9, 64), normal(9, 64, seed=7), routed(9, 4, 2)
    oracle = moe_reference(x, layer, (chosen, weights), residual)
    assert distance(moe(x, layer, (chosen, weights), residual), oracle) < 1e-5
    assert distance(moe(x, plain, (chosen, weights), residual), oracle) > 1e-2


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("activation", ["relu2", "silu", "gelu"])
def test_experts_without_a_gate(bits: int, activation: Activation) -> None:
    """Nemotron-H has them, shared ones too; with biases, in an order of their own, and packed."""
    gated = experts(4, 64, 32, bits)
    shared = Shared(matrix(96, 64, bits, True, 8), matrix(64, 96, bits, True, 9))
    bias, outer = normal(4, 32, seed=5), normal(4, 64, seed=6)
    plain = replace(gated, gate=None, activation=activation, up_bias=bias, down_bias=outer)
    x, residual, (chosen, weights) = normal(9, 64), normal(9, 64, seed=7), routed(9, 4, 2)
    norm = Norm(normal(64, seed=11), 1e-5)
    assert not shared.is_gated and shared.width == 96
    for layer in (plain, replace(plain, shared=shared), replace(plain, in_order=False)):
        oracle = moe_reference(x, layer, (chosen, weights), residual, norm)
        assert distance(moe(x, layer, (chosen, weights), residual, norm), oracle) < 1e-5
        assert distance(moe_mlx(x, layer, (chosen, weights), residual, norm), oracle) < 1e-5
        with using(Simulator()), watching() as launches:
            assert distance(moe(x, layer, (chosen, weights), residual, norm), oracle) < 1e-5
        assert all("moe" not in launch.source.name for launch in launches)
    by_hand = mx.zeros((64,))
    for place, expert in enumerate(np.array(chosen)[0].tolist()):
        rows = slice(expert * 32, expert * 32 + 32)
        inner = activate_plain_reference(
            (x[:1] @ widen(plain.up)[rows].T + bias[expert]), activation
        )
        down = widen(plain.down)[expert * 64 : expert * 64 + 64]
        by_hand = by_hand + weights[0, place] * ((inner @ down.T)[0] + outer[expert])
    out = moe(x, plain, (chosen, weights))
    assert distance(out[0], by_hand) < 1e-5
    up, down = (pack_experts(weight, 4) for weight in (gated.up, gated.down))
    packed = moe(x, replace(plain, up=up, down=down), (chosen, weights))
    assert (np.array(packed) == np.array(out)).all()


@pytest.mark.parametrize(("activation", "launched"), [("relu2", 0), ("silu", 2)])
def test_what_metal_has_no_kernel_for(activation: Activation, launched: int) -> None:
    """Shared experts without a gate go by themselves; a gate of another activation by MLX."""
    shared = Shared(matrix(96, 64, 4, True, 8), matrix(64, 96, 4, True, 9))
    layer = replace(experts(4, 64, 32), activation=activation, shared=shared)
    x, (chosen, weights) = normal(2, 64), routed(2, 4, 2)
    oracle = moe_reference(x, layer, (chosen, weights))
    with using(Simulator()), watching() as launches:
        assert distance(moe(x, layer, (chosen, weights)), oracle) < 1e-5
    assert sum(launch.source.name.startswith("moe") for launch in launches) == launched


def in_nvfp4(rows: int, columns: int, exact: bool, seed: int) -> Quantized:
    """Its groups, and so blocks of activations, are half as long as others'."""
    words, scales, *_ = mx.quantize(normal(rows, columns, seed=seed) * 0.1, mode="nvfp4")
    return Quantized(words, scales, None, 16, 4, "nvfp4", exact)


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", ["bits", "exactness", "dense", "blocks"])
def test_a_gate_stored_in_another_way_than_up(
    kind: str, exact: bool, swapped: bool, rows: int
) -> None:
    """One gate takes the same activations, and three may take others."""
    shape, seed = (4 * 32, 64), 11
    gate = {
        "bits": matrix(*shape, 8, exact, seed),
        "exactness": matrix(*shape, 4, not exact, seed),
        "dense": matrix(*shape, 0, exact, seed),
        "blocks": in_nvfp4(*shape, exact, seed),
    }[kind]
    layer = replace(experts(4, 64, 32, 4, exact), gate=gate)
    if swapped:
        layer = replace(layer, gate=layer.up, up=gate)
    x, (chosen, weights) = normal(rows, 64), routed(rows, 4, 2)
    oracle = moe_reference(x, layer, (chosen, weights))
    with using(Simulator()), watching() as launches:
        assert distance(moe(x, layer, (chosen, weights)), oracle) < 1e-5
    assert any("moe" in launch.source.name for launch in launches) == (kind == "exactness")
    bound = 1e-5 if exact and kind != "exactness" else 2e-2
    out = moe(x, layer, (chosen, weights))
    assert distance(out, oracle) < bound
    gate, up, down = (pack_experts(each, 4) for each in layer.weights)
    packed = moe(x, replace(layer, gate=gate, up=up, down=down), (chosen, weights))
    assert (np.array(packed) == np.array(out)).all()


@pytest.mark.parametrize("width", [20, 32, 40])  # of 20 rows an expert ends within a panel
def test_packed_weights_give_the_same_bits(native: str, width: int) -> None:
    layer = experts(4, 64, width, bits=4 if width == 32 else 0, exact=False)
    x, (chosen, weights) = normal(50, 64), routed(50, 4, 2)
    out = np.array(moe(x, layer, (chosen, weights)))
    assert distance(mx.array(out), moe_reference(x, layer, (chosen, weights))) < 2e-2
    gate, up, down = (pack_experts(w, 4) for w in layer.weights)
    assert isinstance(up, Packed) == (width % loaded(native).lanes == 0)
    packed = replace(layer, gate=gate, up=up, down=down)
    assert (np.array(moe(x, packed, (chosen, weights))) == out).all()


@pytest.mark.parametrize("rows", [1, 40])
def test_outliers_are_apart_for_a_gate_alone(native: str, rows: int) -> None:
    """Its activations are then not those of up, which has none here that 8 bits round."""
    exact = experts(4, 128, 32)
    assert exact.gate is not None
    x = mx.concatenate([normal(rows, 127), mx.full((rows, 1), 60.0)], axis=1)
    routing = routed(rows, 4, 2)
    gates = [replace(exact.gate, exact=False, fine=fine) for fine in (False, True)]
    oracle = moe_reference(x, exact, routing)
    errors = [distance(moe(x, replace(exact, gate=gate), routing), oracle) for gate in gates]
    assert errors[1] < errors[0] / 4
    fine, fast = gates[1], replace(exact.up, exact=False)
    swapped = moe(x, replace(exact, gate=fine, up=fast), routing)
    apart = moe(x, replace(exact, gate=fine, up=replace(fast, fine=True)), routing)
    assert errors[1] < distance(apart, oracle) < distance(swapped, oracle) / 3


@pytest.mark.parametrize(
    ("sigmoid_gate", "width", "bits"), [(False, 96, 4), (True, 96, 4), (True, 40, 0)]
)
def test_shared_experts_are_every_tokens(
    native: str, sigmoid_gate: bool, width: int, bits: int
) -> None:
    opening = normal(1, 64, seed=10) if sigmoid_gate else None
    inner, outer = matrix(2 * width, 64, bits, True, 8), matrix(64, width, bits, True, 9)
    shared = Shared(pack(inner), pack(outer), opening)
    plain = experts(4, 64, 32)
    layer = replace(plain, shared=shared)
    norm, residual = Norm(normal(64, seed=11), 1e-5), normal(9, 64, seed=7)
    x, (chosen, weights) = normal(9, 64), routed(9, 4, 2)
    for rest in ((residual, norm), (residual, None), (None, None)):
        oracle = moe_reference(x, layer, (chosen, weights), *rest)
        assert distance(moe(x, layer, (chosen, weights), *rest), oracle) < 1e-5
        assert distance(moe_mlx(x, layer, (chosen, weights), *rest), oracle) < 1e-5
        assert distance(moe(x, plain, (chosen, weights), *rest), oracle) > 1e-2


@pytest.mark.parametrize("form", ["q4_k", "q6_k", "iq4_nl", "q8_0"])
def test_of_what_mlx_lacks_only_the_chosen_experts_are_restored(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    use(monkeypatch, None)
    restored: list[int] = []

    def noted(weight: Weight) -> Dense | Quantized:
        assert not isinstance(weight, Packed)
        restored.append(weight.weight.shape[0])
        return in_mlx(weight)

    monkeypatch.setattr("bessemer.kernels.moe.moe.in_mlx", noted)
    gate, up, down = (coded(form, 8 * 256, 256, 32, mx.float16, seed) for seed in (1, 2, 3))
    mixture = Experts(8, gate, up, down)
    for rows, count in ((2, 4), (5, 8)):
        restored.clear()
        x, picks = normal(rows, 256) / 100, routed(rows, 8, 2)
        out = moe(x, mixture, picks)
        assert distance(out, moe_reference(x, mixture, picks)) < 1e-5
        assert restored == [count] * 3


def test_experts_on_metal_are_left_as_they_are() -> None:
    weight = experts(4, 64, 64).up
    with using(Simulator()):
        assert pack_experts(weight, 4) is weight


def test_rounded_activations_stay_close() -> None:
    x, (chosen, weights) = normal(20, 128), routed(20, 4, 2)
    layer = experts(4, 128, 64, bits=4, exact=False)
    oracle = moe_reference(x, layer, (chosen, weights))
    out = distance(moe(x, layer, (chosen, weights)), oracle)
    assert out < 2e-2
    assert out > 1e-4 or not compiled(), "they were not rounded"


def test_a_broken_row_breaks_no_other() -> None:
    layer, (chosen, weights) = experts(4, 64, 32, exact=False), routed(6, 4, 2)
    x = np.array(normal(6, 64))
    oracle = np.array(moe(mx.array(x), layer, (chosen, weights)))
    x[2, 5] = np.nan
    out = np.array(moe(mx.array(x), layer, (chosen, weights)))
    assert np.isnan(out[2]).any()
    assert (np.delete(out, 2, axis=0) == np.delete(oracle, 2, axis=0)).all()
