"""A report of results, and the report as JSON, table, markdown and page."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import msgspec
import pytest

from bessemer.bench.compare import plots, report
from bessemer.bench.compare.contest import About, Case, Measure, Unavailable
from bessemer.bench.compare.floor import Floors
from bessemer.bench.compare.machine import describe
from bessemer.bench.compare.metrics import METRICS, Amounts, MachineLimits, cases, floor
from bessemer.bench.compare.page import page
from bessemer.bench.compare.rounds import RoundResults
from bessemer.bench.compare.show import console, entry, number, prepend, table
from bessemer.bench.compare.summary import RunDescription, summarize
from bessemer.bench.models.cost import ModelCost
from bessemer.bench.models.forms import BenchModel

# A model of 4-bit weights: a token reads 100 MB, does 0.4 G operations, keeps 1 kB.
COST = ModelCost(120_000_000, 100e6, 0.0, 1.0, 0.4e9, 1e3, 213_000_000, 0.3e9)
UNDER = BenchModel("toy", Path("/home/somebody/toy"), COST, "4 bits")
AMOUNTS = Amounts(64, [32], [512], [1, 4])


def bench_report(name: str, **values: float) -> report.BenchReport:
    planned = cases(name, AMOUNTS)
    results = RoundResults(
        abouts=[
            About("bessemer", "0.1.0", {"threads": "2"}, 120_000_000),
            About("llama.cpp", "b1", {"KV": "f16"}, 121_000_000),
            About("mlx_lm", "0.32", {"BLAS": "OpenBLAS 0.3"}, 852_000_000),
        ],
        floors=[Floors(20.0, 10.0, 400.0, 900.0), Floors(22.0, 10.0, 410.0, 0.0)],
        troubles={("late", ""): "/home/somebody/toy is not for it"},
    )
    for case in planned:
        for label, times in (("bessemer", 2.0), ("llama.cpp", 1.0), ("mlx_lm", 0.5)):
            results.measures[case.name, label] = [
                Measure({name: value * times * n for name, value in values.items()})
                for n in (1.0, 1.1)
            ]
    results.notes[planned[0].name, "mlx_lm"] = ["cut to 4 of 64 tokens by --budget"]
    command = [
        "bessemer",
        "bench",
        name,
        "--model",
        "/home/somebody/toy",
        "--html=/tmp/x.html",
    ]
    return summarize(
        RunDescription(name, command, describe(), 2, UNDER, planned, "bessemer", "by numpy"),
        results,
    )


def test_one_round_claims_no_interval() -> None:
    full = bench_report("decode", speed=10.0)
    interval = re.compile(r"\d to \d")
    assert interval.search(entry(full).split("|\n\n")[0])
    rows = [msgspec.structs.replace(row, samples=row.samples[:1]) for row in full.rows]
    alone = entry(msgspec.structs.replace(full, rows=rows)).split("|\n\n")[0]
    assert not interval.search(alone) and "()" not in alone and "| 2.00 |" in alone


def test_ratios_floors_and_marks() -> None:
    ours, llama, mlx_lm = bench_report("decode", speed=75.0).find("context 32", "speed")
    assert ours.median == pytest.approx(157.5) and ours.samples == [150.0, 165.0]
    assert ours.ratio is None and llama.ratio is not None and mlx_lm.ratio is not None
    assert (llama.ratio.median, mlx_lm.ratio.median) == (pytest.approx(2), pytest.approx(4))
    limit = 21e9 / (100e6 + 64 * 1e3)
    assert ours.floor == pytest.approx(limit)
    assert ours.of_floor == pytest.approx(157.5 / limit)
    assert llama.of_floor is not None and mlx_lm.of_floor is None  # its weights are others


def test_the_floor_of_each_subject() -> None:
    limits = MachineLimits(20e9, 900e9)
    assert floor(Case("prefill", "", 512), COST, limits) == pytest.approx(900 / 0.3)
    batch = floor(Case("batch", "", 64, 32, 4), COST, limits)
    assert batch == pytest.approx(4 * 20e9 / (100e6 + 4 * 64 * 1e3))
    assert floor(Case("load", "", 1), COST, limits) is None


def test_a_saved_report_is_the_same_and_names_nobody() -> None:
    original = bench_report("serve", speed=100.0, ttft=12.0)
    content = report.write(original)
    assert report.read(content) == original
    assert b"somebody" not in content and b"/home" not in content
    saved = json.loads(content)
    assert saved["schema"] == 1 and saved["command"][-1] == "--html=x.html"
    assert set(saved["machine"]) >= {"cpu", "cores", "memory", "system", "python", "versions"}
    with pytest.raises(ValueError, match="schema is 99"):
        report.read(content.replace(b'"schema": 1', b'"schema": 99'))
    with pytest.raises(ValueError):
        report.read(b"{}")


def test_a_command_for_everybody() -> None:
    line = ["decode", "--against", "llama.cpp,http://gpu7.lab:80/v1,http://127.0.0.1:9"]
    line += ["--model", "Qwen/Qwen3-0.6B", "--gguf=~/models/x.gguf", "--context", "0,4096"]
    public = ["decode", "--against", "llama.cpp,URL,http://127.0.0.1:9"]
    public += ["--model", "Qwen/Qwen3-0.6B", "--gguf=x.gguf", "--context", "0,4096"]
    assert report.public(line) == public


def test_the_table_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(table(bench_report("decode", speed=75.0)))
    out = " ".join(capsys.readouterr().out.split())
    for excerpt in (
        "context 32, tok/s", "157.5", "2.00 (2.00 to 2.00)", "cut to 4 of 64", "BLAS OpenBLAS 0.3",
        "read, GB/s 21.0", "by numpy", "late: toy is not for it", "2 interleaved rounds",
        "(4.51 bits each)",
    ):  # fmt: skip
        assert excerpt in out, excerpt


def test_the_markdown_goes_above_the_newest_entry(tmp_path: Path) -> None:
    log = tmp_path / "LOG.md"
    log.write_text("# What was measured\n\nNewest first.\n\n## 2020-01-01: old\n\ntext\n")
    text = entry(bench_report("decode", speed=75.0))
    prepend(log, text)
    prepend(log, text.replace("decode", "second"))
    lines = log.read_text().splitlines()
    heads = [line for line in lines if line.startswith("#")]
    assert heads[0] == "# What was measured" and heads[-1] == "## 2020-01-01: old"
    assert "second" in heads[1] and "decode, toy, 4 bits" in heads[2]
    widths = {line.count("|") for line in lines if line.startswith("|")}
    assert len(widths) == 1 and "| context 32, tok/s | bessemer | 157.5 |" in log.read_text()
    empty = tmp_path / "NEW.md"
    empty.write_text("# Log\n")
    prepend(empty, text)
    assert empty.read_text().startswith("# Log\n\n## ")


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("decode", ["Speed", "Roofline"]),
        ("prefill", ["Speed", "Roofline"]),
        ("batch", ["Throughput over concurrency", "Roofline"]),
        ("serve", ["Throughput over concurrency", "Latency percentiles", "Roofline"]),
        ("load", ["ready, s from start"]),
    ],
)
def test_the_page_stands_alone(name: str, titles: list[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the extra `bench`")
    values = {metric.name: 10.0 + place for place, metric in enumerate(METRICS[name])}
    text = page(bench_report(name, **values))
    assert text.count("<svg") >= len(titles)
    for title in titles:
        assert f"<h2>{title}" in text
    assert "src=" not in text and "somebody" not in text and "cut to 4 of 64" in text


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        Unavailable, match=f"installed: {re.escape(sys.executable)} -m pip install matplotlib$"
    ):
        plots.require_matplotlib()


def test_scaled_models_are_marked_everywhere() -> None:
    unscaled = bench_report("decode", speed=75.0)
    model = report.model("toy", "4 bits", "scaled: 2 of 32 layers", dataclasses.replace(COST))
    assert "scaled: 2 of 32 layers" in model.title
    assert unscaled.model is not None and unscaled.model.title == "toy, 4 bits"


def test_numbers_keep_three_digits() -> None:
    (column,) = bench_report("decode", speed=1.0).metrics
    assert [number(value, column) for value in (1234.56, 12.34, 0.5, 0.01234, 0)] == [
        "1234.6", "12.3", "0.50", "0.012", "0.0",
    ]  # fmt: skip
