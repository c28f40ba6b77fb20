"""Hypothesis profiles: a quick one that is the same in every run, and a long one that explores."""

from hypothesis import HealthCheck, settings

# Shared machines stall: a deadline would fail tests for what the machine did.
settings.register_profile("quick", max_examples=300, deadline=None, derandomize=True)
settings.register_profile(
    "long",
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")
