"""Edits change single logits of a step before the draw: biases, bans and penalties."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, INT, Function, ready
from ..registry import Operation, in_c


@dataclass(frozen=True, slots=True)
class Edits:
    """Edits, all (entries,): each has a place of its own, and what happens to the logit there.

    The bias is added, the sum divided by the penalty where positive and else multiplied by it, and
    `less` taken off. Places outside the logits are passed over.
    """

    rows: np.ndarray
    ids: np.ndarray
    bias: np.ndarray
    penalty: np.ndarray
    less: np.ndarray


def _is_edited(logits: mx.array, edits: Edits) -> int:
    return len(edits.rows) and logits.size


@in_c("op_edit", ARRAY, INT, INT, INT, *(ARRAY,) * 5, takes=_is_edited)
def _edit_c(native: Function, logits: mx.array, edits: Edits) -> mx.array:
    edited = mx.array(np.asarray(ready(logits)))
    integers = (np.ascontiguousarray(x, np.int32) for x in (edits.rows, edits.ids))
    floats = (np.ascontiguousarray(x, np.float32) for x in (edits.bias, edits.penalty, edits.less))
    native(edited, *edited.shape, len(edits.rows), *integers, *floats)
    return edited


def edit_reference(logits: mx.array, edits: Edits) -> mx.array:
    """Compute the definition."""
    height, width = logits.shape
    inside = (edits.rows >= 0) & (edits.rows < height) & (edits.ids >= 0) & (edits.ids < width)
    if not inside.any():
        return logits
    rows, ids = (mx.array(x[inside].astype(np.int32)) for x in (edits.rows, edits.ids))
    bias, penalty, less = (
        mx.array(x[inside].astype(np.float32)) for x in (edits.bias, edits.penalty, edits.less)
    )
    new = logits[rows, ids] + bias
    edited = mx.array(logits)
    edited[rows, ids] = mx.where(new > 0, new / penalty, new * penalty) - less
    return edited


# (rows, vocabulary) float32 alike; the logits given stay as they are.
edit = Operation("edit", edit_reference, edit_reference, _edit_c)
