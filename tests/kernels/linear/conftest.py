"""The CPU tiers that tests of linear layers run in, for those that ask for one."""

import pytest

from ..tiers import NATIVE, PATHS, use


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Run operations in this tier, or, for None, in MLX's operations."""
    chosen: str | None = request.param
    use(monkeypatch, chosen)
    return chosen


@pytest.fixture(params=NATIVE)
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run operations in this tier."""
    chosen: str = request.param
    use(monkeypatch, chosen)
    return chosen
