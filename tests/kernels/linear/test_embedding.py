"""Embedding rows of every storage against the definition, on every path."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.embedding import embedding, embedding_reference
from bessemer.kernels.linear.weight import Quantized, Weight, pack

from ..arrays import every_storage, normal, same
from ..tiers import NATIVE, PATHS, use


def mxfp4(rows: int, columns: int) -> Quantized:
    parts: Sequence[mx.array] = mx.quantize(normal(rows, columns, seed=1), mode="mxfp4")
    return Quantized(parts[0], parts[1], None, 32, 4, "mxfp4")


def weights() -> list[Weight]:
    return [*every_storage(50, 128), mxfp4(50, 96)]


TOKENS = mx.array([3, 49, 0, 3, 31, 47, -1], mx.int32)


@pytest.mark.parametrize("path", PATHS)
def test_rows(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, path)
    for weight in weights():
        out = embedding(TOKENS, weight, mx.float32)
        assert same(out, embedding_reference(TOKENS, weight, mx.float32))
        assert same(out[1:2], embedding(TOKENS[1:2], weight, mx.float32))


@pytest.mark.parametrize("path", NATIVE)
def test_rows_of_a_packed_matrix(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, path)
    for weight, again in zip(weights(), weights(), strict=True):
        oracle = embedding_reference(TOKENS, weight, mx.float32)
        assert same(embedding(TOKENS, pack(again), mx.float32), oracle)


@pytest.mark.parametrize("path", PATHS)
def test_all_codes_and_scales_of_mxfp4(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, path)
    words = mx.array(np.tile(np.array([0x76543210, 0xFEDCBA98] * 2, np.uint32), (255, 1)))
    scales = mx.array(np.arange(255, dtype=np.uint8)[:, None])
    weight = Quantized(words, scales, None, 32, 4, "mxfp4")
    tokens = mx.array(np.arange(253, dtype=np.int32))
    out = np.array(embedding(tokens, weight, mx.float32))
    sizes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    row = np.concatenate([sizes, -sizes] * 2)
    assert (out == (row[None] * 2.0 ** (np.arange(253)[:, None] - 127))).all()


@pytest.mark.parametrize("path", PATHS)
def test_dtype_is_the_callers(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, path)
    for weight in weights():
        assert embedding(mx.array([1], mx.int32), weight, mx.float16).dtype == mx.float16


@pytest.mark.parametrize("path", NATIVE)
def test_a_token_out_of_range_reads_no_foreign_memory(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, path)
    for weight in weights():
        out = embedding(mx.array([50, 2**31 - 1, -(2**31)], mx.int32), weight, mx.float32)
        oracle = embedding(mx.array([49, 49, 0], mx.int32), weight, mx.float32)
        assert same(out, oracle)
