"""Products of every storage against the definition, row independence, and bounded temporaries."""

import mlx.core as mx
import pytest

from bessemer.kernels.linear import WIDENED, Dense, Weight, linear, linear_reference

from .arrays import close, dense, every_storage, normal, same


@pytest.mark.parametrize("weight", every_storage(96, 256))
def test_product(weight: Weight) -> None:
    x = normal(5, 256)
    assert close(linear(x, weight), linear_reference(x, weight))


@pytest.mark.parametrize("weight", every_storage(64, 256))
def test_a_row_does_not_depend_on_the_others(weight: Weight) -> None:
    x = normal(65, 256)
    whole = linear(x, weight)
    for start, stop in ((0, 1), (7, 8), (3, 5), (1, 34), (33, 65)):
        assert same(linear(x[start:stop], weight), whole[start:stop])


def test_no_rows() -> None:
    for weight in every_storage(32, 128):
        found = linear(mx.zeros((0, 128)), weight)
        mx.eval(found)
        assert found.shape == (0, 32)


def test_a_16_bit_matrix_is_widened_block_by_block() -> None:
    weight = Dense(mx.zeros((100 * WIDENED // 1024 + 3, 1024), mx.bfloat16))
    x = normal(2, 1024)
    mx.eval(weight.weight, x)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(linear(x, weight))
    assert mx.get_peak_memory() - before < 25 * 4 * WIDENED


def test_blocks_join_in_order() -> None:
    weight = dense(3 * WIDENED // 1024 + 5, 1024, mx.bfloat16)
    x = normal(2, 1024)
    assert same(linear(x, weight), x @ weight.weight.astype(mx.float32).T)
