"""Every family's tiny models on the instruction sets below the one in use, by golden files."""

from collections.abc import Callable, Mapping

import pytest

from bessemer.engine.model import Model
from tests.kernels.tiers import LOWER, use

from .parity import GOLDEN, TOLERANCE, differences, loaded
from .steps import crowd, prefill, token_by_token
from .tiny import Floats, prompts

NAMES = sorted(path.stem for path in GOLDEN.glob("*.npz") if not path.stem.startswith("encoder"))
FED: list[Callable[[Model], Mapping[int, Floats]]] = [
    lambda model: {0: prefill(model, prompts()[0])},
    lambda model: dict(enumerate(crowd(model, prompts(), chunk=19))),
    lambda model: {0: prefill(model, prompts()[0], 7)},
    lambda model: {0: token_by_token(model, prompts()[0])},
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", LOWER)
def test_logits_equal_the_reference(tier: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is fed in one way, which differs from model to model and from tier to tier."""
    use(monkeypatch, tier)
    way = FED[(NAMES.index(name) + LOWER.index(tier)) % len(FED)]
    errors = differences(name, way(loaded(name)))
    assert errors and max(errors) <= TOLERANCE
