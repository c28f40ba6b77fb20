"""Tests of .github/workflows/metal.yml: what it runs is there."""

from pathlib import Path

import yaml

from bessemer.bench.kernels.export import LANGUAGES

ROOT = Path(__file__).parents[3]


def test_the_workflow_runs_what_is_there() -> None:
    """It compiles in every language, and makes the report, when somebody asks for it."""
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "metal.yml").read_text())
    assert flow[True] == "workflow_dispatch"  # YAML 1.1 takes `on` for a truth
    jobs = flow["jobs"]
    assert jobs["compile"]["strategy"]["matrix"]["language"] == list(LANGUAGES)
    runs = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert any(run.startswith(".venv/bin/bessemer kernels export ") for run in runs)
    assert any("kernels compile" in run and "--language" in run for run in runs)
    targets = (ROOT / "Makefile").read_text()
    for run in runs:
        if run.startswith("make "):
            assert f"\n{run.removeprefix('make ')}:" in targets
