"""Tests of bench/report/kernels.py in the simulator: each kind of fault, planted, is found."""

import mlx.core as mx
import pytest

from bessemer.bench.report.finding import How
from bessemer.bench.report.kernels import first_difference, shown, verify
from bessemer.kernels.attention.pages import Heads
from bessemer.kernels.catalog import metal_operations
from bessemer.kernels.instances import DTYPES, cases

from .running import planted


def test_a_compile_error_comes_with_its_text_and_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = planted("compile_error", monkeypatch, "rms_norm")
    assert [each.state for each in found] == ["compile error"] * 2
    assert "simd_sam" in found[0].text and found[0].item == "float32, case 1"
    details = found[0].details
    assert details["operation"] == "rms_norm" and details["arguments"][0] == "float32[1, 7]"
    (kernel,) = details["kernels"]
    assert "simd_sam" in kernel["text"] and kernel["threads"] == 32
    assert dict(kernel["template"])["COUNT"] == 1


def test_a_wrong_number_comes_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = planted("wrong", monkeypatch, "rms_norm")
    assert finding.state == "wrong" and "off by" in finding.text
    first = finding.details["first"]
    assert first["shape"] == [1, 7] and first["differ"] == "6 of 7" and first["index"] == [0, 0]
    assert float(first["ours"]) != float(first["reference"])
    assert "factor" in finding.details["kernels"][0]["text"]


def test_a_race_is_found_by_running_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = planted("race", monkeypatch, "rms_norm")
    assert finding.state == "race" and "run 2 has other bits than the first" in finding.text
    assert finding.details["first"]["shape"] == [2, 33] and finding.details["kernels"]


@pytest.mark.parametrize(("name", "state"), [("trials", "ok"), ("wrong_trials", "wrong")])
def test_trials_compare_with_mlx(name: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planted(name, monkeypatch, "tiny")
    assert {each.state for each in found} == {state}
    assert found[0].item == "linear, query, key, value, rows 1"


def test_every_case_is_an_item() -> None:
    items = [name for name, _ in verify("rms_norm", How(simulated=True))]
    operation = metal_operations()["rms_norm"]
    assert len(items) == sum(len(list(cases(operation, dtype))) for dtype in DTYPES)
    assert len(set(items)) == len(items) and items[0] == "float32, case 1"


def test_the_first_difference() -> None:
    oracle = mx.array([[1.0, 2.0, float("nan")], [float("inf"), 5.0, 0.0]])
    near = mx.array([[1.1, 2.0, float("nan")], [float("inf"), 5.0, float("nan")]])
    assert first_difference(near, oracle, 0.1) == {
        "shape": [2, 3],
        "index": [1, 2],
        "ours": "nan",
        "reference": "0.0",
        "differ": "1 of 6",
    }
    assert first_difference(near, oracle, 0.001)["index"] == [0, 0]
    assert first_difference(mx.zeros((2,)), mx.zeros((3,)), 1)["reference shape"] == [3]


def test_arguments_are_described_by_shape() -> None:
    heads = Heads(4, 2, 64, 0.125, 64, k_norm=mx.ones((64,)))
    text = shown((mx.zeros((2, 3), mx.float16), heads, None, [1, 2]))
    assert text.startswith("[float16[2, 3], Heads(heads=4, kv_heads=2") and "None" in text
    assert "k_norm=float32[64]" in text and "sinks" not in text and text.endswith("[1, 2]]")
