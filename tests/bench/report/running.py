"""A part of a report run as the report runs it, in processes, with a planted fault."""

import time
from pathlib import Path

import pytest

from bessemer.bench.report.finding import Finding, How
from bessemer.bench.report.processes import run_part
from bessemer.bench.report.steps import Step

ROOT = Path(__file__).parents[3]
LONG = 300.0  # seconds, for machines that do much else


def planted(
    name: str,
    patch: pytest.MonkeyPatch,
    part: str = "",
    seconds: float = LONG,
    all_of_it: float = LONG,
) -> list[Finding]:
    """Run a function of planted.py; the findings are the step's."""
    patch.setenv("PYTHONPATH", str(ROOT))
    step = Step("planted", "a step with a fault", f"tests.bench.report.planted:{name}", 1, seconds)
    until = time.monotonic() + all_of_it
    return list(run_part(step, part, How(simulated=True), until, lambda _: None))
