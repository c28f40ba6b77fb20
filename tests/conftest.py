"""Hypothesis profiles: a quick one that is the same in every run, and a long one that explores.

BESSEMER_CPU_TIER=avx2 runs everything on that instruction set, and on those below it.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from bessemer.kernels.cpu.library import AUTO, use_tier

# Shared machines stall: a deadline would fail tests for what the machine did.
settings.register_profile("quick", max_examples=300, deadline=None, derandomize=True)
settings.register_profile(
    "long",
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")


def pytest_configure() -> None:
    try:
        use_tier(os.environ.get("BESSEMER_CPU_TIER") or AUTO)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
