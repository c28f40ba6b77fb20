"""Embedding rows of every storage against the definition."""

import mlx.core as mx
import pytest

from bessemer.kernels.embedding import embedding, embedding_reference
from bessemer.kernels.linear import Weight

from .arrays import every_storage, same


@pytest.mark.parametrize("weight", every_storage(50, 128))
def test_rows(weight: Weight) -> None:
    tokens = mx.array([3, 49, 0, 3], mx.int32)
    found = embedding(tokens, weight, mx.float32)
    assert same(found, embedding_reference(tokens, weight, mx.float32))
    assert same(found[1:2], embedding(tokens[1:2], weight, mx.float32))


def test_dtype_is_the_callers() -> None:
    for weight in every_storage(8, 128):
        assert embedding(mx.array([1], mx.int32), weight, mx.float16).dtype == mx.float16
