"""Linear layers of every storage and instruction set against the definition, and row by row."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.activation import ACTIVATIONS, Activation, activate_reference
from bessemer.kernels.linear.linear import gated_linear, linear, linear_reference
from bessemer.kernels.linear.linear_mlx import Epilogue
from bessemer.kernels.linear.weight import Dense, Packed, Quantized, Weight, pack, pack_pair, widen

from ..arrays import close, dense, every_storage, normal, quantized, same
from ..tiers import loaded, use

BITS = (2, 3, 4, 5, 6, 8)
FLOATS = (mx.float32, mx.float16, mx.bfloat16)
# On either side of the rows that kernels/cpu/matmul.h takes together, for any width of vector.
ROWS = (1, 2, 12, 13, 36, 37, 193, 300)
SILU = Epilogue(activation="silu")
PRECISIONS = ("fast", "fine", "exact")
EXACT, FAST = 2e-5, 1.5e-2  # against the largest value; relative error of the whole


def microscaled(outputs: int, inputs: int) -> Quantized:
    parts = mx.quantize(normal(outputs, inputs, seed=1), mode="mxfp4")
    return Quantized(parts[0], parts[1], None, 32, 4, "mxfp4")


def grid(bits: int) -> Iterator[Quantized]:
    """Every group and type of scales; tails of outputs, and of inputs where a group allows it."""
    for group, sizes in ((32, (32, 352)), (64, (64, 1088)), (128, (640, 1152))):
        for dtype, outputs in zip(FLOATS, (37, 64, 17), strict=True):
            for inputs in sizes:
                yield quantized(outputs, inputs, group, bits, dtype)


def samples(precision: str) -> list[Weight]:
    """Return one weight of each kind, made anew: `pack` overwrites its argument."""
    kinds = [*(quantized(52, 320, 64, bits) for bits in BITS), microscaled(52, 320)]
    floats = [dense(outputs, 330, dtype) for dtype in FLOATS for outputs in (48, 33)]
    exact, fine = precision == "exact", precision == "fine"
    stored = [replace(kind, exact=exact, fine=fine) for kind in kinds]
    return [*stored, *(floats if exact else [])]


def error(out: mx.array, oracle: mx.array) -> float:
    difference = np.array(out - oracle)
    return float(np.sqrt((difference**2).mean() / (np.array(oracle) ** 2).mean()))


@pytest.mark.parametrize("bits", BITS)
def test_quantized(path: str | None, bits: int) -> None:
    for number, weight in enumerate(grid(bits)):
        x = normal(ROWS[number % 6], widen(weight).shape[1])
        oracle = linear_reference(x, weight)
        assert close(linear(x, replace(weight, exact=True)), oracle, EXACT)
        assert error(linear(x, weight), oracle) < FAST


@pytest.mark.parametrize("outputs", [1, 16, 40])
def test_mxfp4(path: str | None, outputs: int) -> None:
    for inputs, rows in ((32, 2), (96, 13), (544, 1), (1152, 37)):
        weight, x = microscaled(outputs, inputs), normal(rows, inputs)
        oracle = linear_reference(x, weight)
        assert close(linear(x, replace(weight, exact=True)), oracle, EXACT)
        assert error(linear(x, weight), oracle) < FAST


@pytest.mark.parametrize("dtype", FLOATS)
def test_dense(path: str | None, dtype: mx.Dtype) -> None:
    for outputs, inputs in ((7, 31), (33, 130), (64, 128), (1, 1), (16, 2), (50, 1152)):
        for rows in (1, 13, 37):
            weight, x = dense(outputs, inputs, dtype), normal(rows, inputs)
            assert close(linear(x, weight), linear_reference(x, weight), EXACT)


@pytest.mark.parametrize("rows", ROWS)
def test_any_number_of_rows(path: str | None, rows: int) -> None:
    x = normal(rows, 576)
    for weight in (quantized(70, 576, 64, 4), microscaled(33, 576)):
        oracle = linear_reference(x, weight)
        assert close(linear(x, replace(weight, exact=True)), oracle, EXACT)
        assert error(linear(x, weight), oracle) < FAST
    floats = dense(70, 576)
    assert close(linear(x, floats), linear_reference(x, floats), EXACT)


def spiky(rows: int, inputs: int) -> mx.array:
    """Normal values with an outlier in one column in all rows, and in one of each row's own."""
    x = np.array(normal(rows, inputs))
    x[:, 100] = 50
    x[np.arange(rows), 200 + 37 * np.arange(rows) % (inputs - 200)] = -40
    return mx.array(x)


@pytest.mark.parametrize("rows", ROWS)
def test_outliers_do_not_make_their_blocks_coarse(native: str, rows: int) -> None:
    x = spiky(rows, 1152)
    for make in partial(quantized, 70, 1152, 32, 4), partial(quantized, 32, 1152, 64, 8):
        weight = replace(make(), fine=True)
        out, oracle = linear(x, weight), linear_reference(x, weight)
        assert error(out, oracle) < error(linear(x, make()), oracle) / 2
        assert same(linear(x, pack(replace(make(), fine=True))), out)
        assert same(linear(x[-1:], weight), out[-1:])


def test_no_rows(path: str | None) -> None:
    x = mx.zeros((0, 320))
    for weight in samples("fast") + [pack(weight) for weight in samples("fine")]:
        out = linear(x, weight, Epilogue(normal(52), mx.zeros((0, 52))))
        assert out.shape == (0, 52)
        assert gated_linear(x, weight, SILU).shape == (0, 26)


def test_small_weights_of_zero_mean_keep_their_precision(path: str | None) -> None:
    """A code's offset must not reach the sum, where it is many times larger than the result."""
    for rows in (1, 40):
        weight, x = quantized(256, 1024, 64, 4), normal(rows, 1024)
        assert error(linear(x, weight), linear_reference(x, weight)) < 1e-2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bias_and_residual(path: str | None, precision: str) -> None:
    for weight in samples(precision):
        for rows in (1, 14, 40):
            x = normal(rows, widen(weight).shape[1])
            bias, residual = normal(weight.outputs), normal(rows, weight.outputs, seed=3)
            plain = linear(x, weight)
            assert close(linear(x, weight, Epilogue(bias)), plain + bias, 1e-6)
            assert close(linear(x, weight, Epilogue(None, residual)), plain + residual, 1e-6)
            both = linear(x, weight, Epilogue(bias, residual))
            assert close(both, plain + bias + residual, 1e-6)


def test_operands_of_another_type_or_order(path: str | None) -> None:
    weight, bias = dense(24, 40), normal(24).astype(mx.bfloat16)
    x, residual = normal(40, 6).T, normal(24, 6).T
    out = linear(x, weight, Epilogue(bias, residual))
    assert close(out, linear_reference(x, weight, Epilogue(bias, residual)), EXACT)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_gate_and_up(path: str | None, kind: Activation) -> None:
    for outputs in (32, 96, 224, 70):  # of the last the halves begin within a panel
        for rows in (1, 13, 50):
            x, bias = normal(rows, 192), normal(outputs, seed=4)
            fast = quantized(outputs, 192, 64, 4)
            exact = replace(fast, exact=True)
            for weight in (exact, dense(outputs, 192)):
                out = gated_linear(x, weight, Epilogue(bias, None, kind, 1.5))
                oracle = linear_reference(x, weight, Epilogue(bias, None, kind, 1.5))
                assert close(out, oracle, EXACT)
            for weight in (fast, replace(fast, fine=True)):
                joined = activate_reference(linear(x, weight), kind, 7)
                out = gated_linear(x, weight, Epilogue(None, None, kind, 7))
                assert close(out, joined, EXACT)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_packed_is_the_same_to_the_last_bit(native: str, precision: str) -> None:
    for weight, copy in zip(samples(precision), samples(precision), strict=True):
        packed = pack(copy)
        assert isinstance(packed, Packed)
        assert pack(packed) is packed
        assert packed.outputs == weight.outputs
        wide = widen(weight)
        assert same(widen(packed), wide)
        for rows in (1, 2, 13, 37, 300):
            x = spiky(rows, wide.shape[1])
            assert same(linear(x, packed), linear(x, weight))


@pytest.mark.parametrize("packed", [False, True])
def test_packed_gate_and_up_are_the_same(native: str, packed: bool) -> None:
    for bits in BITS:
        weight = quantized(96, 128, 32, bits)
        oracle = gated_linear(normal(40, 128), weight, SILU)
        other = pack(weight) if packed else weight
        for start, stop in ((0, 1), (3, 20), (0, 40)):
            assert same(gated_linear(normal(40, 128)[start:stop], other, SILU), oracle[start:stop])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_row_does_not_depend_on_the_others(native: str, precision: str, packed: bool) -> None:
    for sample in samples(precision):
        weight = pack(sample) if packed else sample
        x = spiky(300, 330 if isinstance(sample, Dense) else 320)
        oracle = linear(x, weight)
        for start, stop in ((0, 1), (299, 300), (5, 7), (100, 113), (30, 66), (0, 37), (107, 300)):
            assert same(linear(x[start:stop], weight), oracle[start:stop])


def test_a_row_does_not_depend_on_the_others_in_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None)
    x = normal(65, 256)
    for weight in every_storage(64, 256):
        oracle = linear(x, weight)
        for start, stop in ((0, 1), (7, 8), (3, 5), (1, 34), (33, 65)):
            assert same(linear(x[start:stop], weight), oracle[start:stop])


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_row_shows_and_stays_alone(native: str, broken: float, packed: bool) -> None:
    for sample in [each for precision in PRECISIONS for each in samples(precision)]:
        weight = pack(sample) if packed else sample
        values = np.array(normal(40, 330 if isinstance(sample, Dense) else 320))
        sound = np.array(linear(mx.array(values), weight))
        values[[2, 17], [9, 300]] = broken
        values[17, 310] = broken
        out = np.array(linear(mx.array(values), weight))
        assert not np.isfinite(out[[2, 17]]).any()
        others = [row for row in range(40) if row not in (2, 17)]
        assert np.array_equal(out[others], sound[others])
        alone = np.array(linear(mx.array(values[2:3]), weight))
        assert not np.isfinite(alone).any()


def test_rows_of_nothing_and_next_to_nothing(path: str | None) -> None:
    values = np.array(normal(14, 320))
    values[3] = 0
    values[5] *= np.float32(1e-42)
    for how in ({}, {"fine": True}, {"exact": True}):
        for weight in (quantized(52, 320, 64, 4), microscaled(52, 320)):
            out = np.array(linear(mx.array(values), replace(weight, **how)))
            assert (out[3] == 0).all()
            assert (np.abs(out[5]) < 1e-38).all()
            assert np.isfinite(out).all()


@pytest.mark.parametrize("activation", ["silu", "gelu", "swiglu_clamped"])
def test_a_gate_and_its_up_projection_in_turns(native: str, activation: Activation) -> None:
    """They give the same bits as one below the other, for any rows."""
    x = normal(41, 320, seed=5)
    for gate, up in pairs():
        below, out, bias = joined(gate, up), pack_pair(gate, up), normal(2 * gate.outputs, seed=6)
        assert out is not None
        for some in (None, bias):
            epilogue = Epilogue(some, None, activation)
            oracle = gated_linear(x, below, epilogue)
            assert same(gated_linear(x, out, epilogue), oracle)
            assert same(gated_linear(x[7:8], out, epilogue), oracle[7:8])
            assert gated_linear(x[:0], out, epilogue).shape == (0, gate.outputs)
    with pytest.raises(AssertionError):
        linear(x, paired_of(48, 320))


@pytest.mark.parametrize("width", [4, 8, 12, 16, 20, 24, 40, 48, 56])
def test_whatever_their_width_gate_and_up_are_multiplied(native: str, width: int) -> None:
    """Whole panels, which differ by tier, are interleaved; else one lies below the other."""
    x, bias = normal(5, 64, seed=5), normal(2 * width, seed=6)
    for gate, up in (
        (dense(width, 64), Dense(normal(width, 64, seed=2))),
        (quantized(width, 64, 32, 4), quantized(width, 64, 32, 4, seed=2)),
    ):
        below, out = joined(gate, up), pack_pair(gate, up)
        epilogue = Epilogue(bias, None, "silu")
        assert (out is None) == bool(width % loaded(native).lanes)
        y = gated_linear(x, out or pack(joined(gate, up)), epilogue)
        assert same(y, gated_linear(x, below, epilogue))
        exact = replace(below, exact=True) if isinstance(below, Quantized) else below
        assert close(gated_linear(x, exact, epilogue), linear_reference(x, below, epilogue), EXACT)


def pairs() -> Iterator[tuple[Dense | Quantized, Dense | Quantized]]:
    for bits in BITS:
        yield quantized(48, 320, 64, bits), quantized(48, 320, 64, bits, seed=2)
    yield microscaled(48, 320), microscaled(48, 320)
    fine = (replace(quantized(48, 320, 32, 8, seed=seed), fine=True) for seed in (1, 2))
    yield next(fine), next(fine)
    for dtype in FLOATS:
        yield dense(48, 320, dtype), Dense(normal(48, 320, seed=2).astype(dtype))


def joined(gate: Dense | Quantized, up: Dense | Quantized) -> Dense | Quantized:
    if isinstance(gate, Dense):
        return Dense(mx.concatenate([gate.weight, up.weight]))
    assert isinstance(up, Quantized)
    biases = None
    if gate.biases is not None and up.biases is not None:
        biases = mx.concatenate([gate.biases, up.biases])
    words, scales = (
        mx.concatenate(list(pair)) for pair in ((gate.weight, up.weight), (gate.scales, up.scales))
    )
    return replace(gate, weight=words, scales=scales, biases=biases)


def paired_of(outputs: int, inputs: int) -> Packed:
    out = pack_pair(*(quantized(outputs, inputs, 64, 4) for _ in range(2)))
    assert out is not None
    return out
