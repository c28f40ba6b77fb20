"""MLX's own product: blocks of a 16-bit matrix, no rows, what the epilogue adds."""

import mlx.core as mx
import pytest

from bessemer.kernels.linear.linear import linear
from bessemer.kernels.linear.linear_mlx import WIDENED, Epilogue, linear_mlx, product
from bessemer.kernels.linear.weight import Dense, Quantized, widen
from bessemer.kernels.norm.rms_norm import Norm, rms_norm_reference

from ..arrays import close, coded, dense, every_storage, normal, same
from ..tiers import PATHS, use


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    use(monkeypatch, request.param)
    return request.param


def test_a_16_bit_matrix_is_widened_block_by_block(path: str | None) -> None:
    weight = Dense(mx.zeros((100 * WIDENED // 1024 + 3, 1024), mx.bfloat16))
    x = normal(2, 1024)
    mx.eval(weight.weight, x)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(linear(x, weight))
    assert mx.get_peak_memory() - before < 25 * 4 * WIDENED


def test_blocks_join_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None)
    weight = dense(3 * WIDENED // 1024 + 5, 1024, mx.bfloat16)
    x = normal(2, 1024)
    assert same(linear(x, weight), x @ weight.weight.astype(mx.float32).T)


@pytest.mark.parametrize("form", ["q3_k", "q6_k", "iq4_xs", "iq4_nl"])
def test_what_mlx_lacks_is_restored_in_parts(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    weight, x, restored = coded(form, 70, 512, 32, mx.float16), normal(3, 512), list[int]()

    def noted(part: Quantized) -> mx.array:
        restored.append(part.outputs)
        return widen(part)

    monkeypatch.setattr("bessemer.kernels.linear.linear_mlx.widen", noted)
    monkeypatch.setattr("bessemer.kernels.linear.linear_mlx.RESTORED", 32 * 512)
    assert close(product(x, weight), x @ widen(weight).T)
    assert restored == [32, 32, 6]


def test_every_storage_is_multiplied_as_restored() -> None:
    x = normal(3, 256)
    for weight in every_storage(16, 256):
        assert isinstance(weight, Dense | Quantized)
        assert close(product(x, weight), x @ widen(weight).T, 1e-4)
        assert product(x[:0], weight).shape == (0, 16)


def test_the_norm_comes_first_and_the_epilogue_last() -> None:
    x, weight, bias, residual = normal(2, 64), dense(16, 64), normal(16), normal(2, 16, seed=2)
    norm = Norm(normal(64, seed=3), 1e-5)
    y = rms_norm_reference(x, norm.weight, norm.eps) @ weight.weight.T + bias
    assert close(linear_mlx(x, weight, Epilogue(bias, residual), norm), y + residual)
    gated = linear_mlx(x, weight, Epilogue(bias, None, "silu"), norm)
    assert close(gated, y[:, :8] * mx.sigmoid(y[:, :8]) * y[:, 8:])
    assert (Epilogue().number, Epilogue(activation="gelu").number) == (0, 2)
