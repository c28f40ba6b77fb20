"""The Metal sampler where equals stand on both sides of a cut."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.metal.device import using
from bessemer.kernels.sampling.sample import sample

from ..metal_cases import Case
from .test_sample_metal import CHECK, draws


@pytest.mark.parametrize(
    ("size", "top_p", "left"),
    [
        *((2, 0.5, 1), (4, 0.5, 2), (4, 0.25, 1), (4, 0.75, 3), (8, 0.625, 5), (1024, 0.5, 512)),
        *((4096, 0.25, 1024), (4, 0.5000001, 3), (4, 0.4999999, 2)),
    ],
)
def test_top_p_at_an_exact_tie(size: int, top_p: float, left: int) -> None:
    """As few as reach it: of equals their number says how many, without a sum of chances."""
    picks = np.array(sorted({0, left // 2, left - 1}))
    uniform = np.concatenate([picks + 0.25, picks + 0.75]) / left
    settings = np.array([[1.0, 0, top_p, 0]] * len(uniform))
    with using(CHECK):
        out = sample(mx.zeros((len(uniform), size)), draws(settings, uniform))
    assert out.tolist() == [*picks, *picks]


def cases() -> list[Case]:
    return [Case("tie", "sample.metal", partial(test_top_p_at_an_exact_tie, 4, 0.5, 2))]
