"""8-bit activations cost the built-in model none of its answers, and next to no perplexity."""

from bessemer.bench.guide.precision import GUIDE, compare
from bessemer.kernels.cpu.library import compiled


def test_the_built_in_model_answers_alike() -> None:
    precision = compare(GUIDE, 80)
    assert (precision.same, precision.compared) == (80, 80)
    assert precision.fast != precision.exact or not compiled()
    assert abs(precision.change) < 0.005
