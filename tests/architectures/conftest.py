"""Spreads the tests of `Parity` over a family's cases, and over the fields that matter in each."""

import pytest

from .parity import Parity


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.cls is None or not issubclass(metafunc.cls, Parity):
        return
    cases = metafunc.cls.cases
    if "field" in metafunc.fixturenames:
        pairs = [(name, field) for name, case in cases.items() for field in case.matters]
        metafunc.parametrize(("case", "field"), pairs)
    elif "case" in metafunc.fixturenames:
        metafunc.parametrize("case", cases)
