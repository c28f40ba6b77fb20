"""Two checkouts beside each other: real processes of this one, and ratios worked out by hand."""

import json
import sys
from pathlib import Path

import pytest

from bessemer.bench.command import names
from bessemer.bench.compare.checkout import SERVER, SPEED, Checkout
from bessemer.bench.compare.contest import Case, CaseFailed, Measure
from bessemer.bench.compare.regression import (
    Comparison,
    RegressionOptions,
    cases,
    figures,
    main,
    table,
    verdict,
)
from bessemer.bench.compare.report import Ratio
from bessemer.bench.compare.rounds import RoundResults
from bessemer.bench.models.shapes import shape
from bessemer.bench.models.synthetic import Storage, checkpoint


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set one cache for all tests, so that C is compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def base(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This very checkout under another path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def test_a_server_of_both_from_end_to_end(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--rounds", "1", "--shape", "tiny", "--tokens", "1", "--seconds", "0.05"]
    assert main(["--base", str(base), "--only", "server", *quick, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["troubles"] == [] and list(report["checkouts"]) == ["before", "after"]
    assert all("CPU tier" in said for said in report["checkouts"].values())
    assert [each["column"]["name"] for each in report["figures"]] == [m.name for m in SERVER]
    for each in report["figures"]:
        assert [len(each[side]) for side in ("before", "after")] == [1, 1]
        assert each["before"][0] > 0 and each["after"][0] > 0 and each["verdict"] == "unclear"


def test_a_model_is_run_by_the_command_line(base: Path, tmp_path: Path) -> None:
    model = checkpoint(shape("tiny"), Storage(), 1, tmp_path)
    checkout = Checkout("before", base / ".venv", model, 0.05)
    assert "not said" not in checkout.start().settings["CPU tier"]
    assert checkout.measure(Case("batch", "tiny", 4, 8, 2), 1).values[SPEED.name] > 0
    missing = Checkout("before", base / ".venv", tmp_path / "none", 0.05)
    with pytest.raises(CaseFailed, match="neither a directory nor"):
        missing.measure(Case("decode", "tiny", 4, 8), 1)


def test_ratios_are_of_one_round_and_say_what_is_worse() -> None:
    case = Case("decode", "tiny")
    results = RoundResults()
    results.measures["tiny", "before"] = [Measure({SPEED.name: 100.0 * n}) for n in range(1, 7)]
    results.measures["tiny", "after"] = [Measure({SPEED.name: 50.0 * n}) for n in range(1, 7)]
    (figure,) = figures([case], results)
    assert figure.ratio == Ratio(0.5, 0.5, 0.5) and figure.verdict == "worse"
    shown = table(Comparison(None, 6, {}, [figure], []))  # type: ignore[arg-type]
    assert [next(iter(column.cells)) for column in shown.columns] == [
        "tiny, tok/s", "350.0", "175.0", "0.500 (0.500 to 0.500)", "worse",
    ]  # fmt: skip
    del results.measures["tiny", "after"]
    assert list(figures([case], results)) == []


@pytest.mark.parametrize(
    ("low", "high", "more_is_better", "rounds", "said"),
    [
        (0.90, 0.97, True, 6, "worse"),
        (0.90, 0.99, True, 6, "unclear"),
        (0.99, 1.50, True, 6, "not worse"),
        (1.03, 1.10, False, 6, "worse"),
        (0.99, 1.10, False, 6, "unclear"),
        (0.50, 1.01, False, 6, "not worse"),
        (0.50, 0.50, True, 5, "unclear"),
    ],
)
def test_noise_is_no_verdict(
    low: float, high: float, more_is_better: bool, rounds: int, said: str
) -> None:
    assert verdict(Ratio(1.0, low, high), more_is_better, rounds) == said


def test_mistakes_are_one_sentence(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = RegressionOptions(base="x", only=names("decode,server"))
    assert [case.benchmark for case in cases(options)] == ["decode", "server"]
    for arguments, excerpt in (
        ([], "--base"),
        (["--base", str(base), "--only", "speed"], "--only knows decode, prefill"),
        (["--base", str(base / "none")], "has no .venv: run `make"),
        (["--base", str(base), "--shape", "none"], "no shape is called 'none'"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert excerpt in error and error.count("\n") == 1
