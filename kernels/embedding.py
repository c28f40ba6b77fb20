"""Rows of an embedding matrix, dense or quantized, by token."""

import mlx.core as mx

from .linear import Dense, Quantized, Weight, widen


def embedding(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """(rows,) to (rows, width); quantized rows are restored in float32, whatever their scales."""
    if isinstance(weight, Dense):
        return weight.weight[tokens].astype(dtype)
    chosen = Quantized(
        weight.weight[tokens],
        weight.scales[tokens],
        weight.biases[tokens],
        weight.group,
        weight.bits,
    )
    return widen(chosen).astype(dtype)


def embedding_reference(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """The definition: the whole matrix restored, then its rows."""
    return widen(weight)[tokens].astype(dtype)
