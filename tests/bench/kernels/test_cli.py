"""Tests of `bessemer kernels`: what it lists, profiles, and says where it cannot."""

import json
from pathlib import Path

import pytest

from bessemer.bench.kernels import cli
from bessemer.bench.kernels.cli import main
from bessemer.kernels.catalog import OPERATIONS
from bessemer.kernels.cpu.library import sources
from bessemer.kernels.metal.device import Simulator, using
from bessemer.kernels.metal.source import FOLDER, metal_files

SMALL = ("--shape", "tiny", "--rows", "1", "--context", "40")


def test_every_operation_and_every_file_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["operation"] for each in listed] == list(OPERATIONS)
    files = {file for row in OPERATIONS.values() for file in row.metal}
    assert set(metal_files()) == files
    between = {"rows.c", "blocks.c"}  # what lies between operations, and what loading does
    assert between | {row.c for row in OPERATIONS.values()} - {""} == {
        path.name for path in sources() if path.parent.name != "cpu"
    }


def test_what_runs_here(capsys: pytest.CaptureFixture[str]) -> None:
    with using(Simulator()):
        assert main(["list", "--json"]) == 0
    listed = {each["operation"]: each for each in json.loads(capsys.readouterr().out)}
    assert listed["linear"]["here"] == "simulator" and listed["rope_table"]["here"] == "MLX"


def test_the_list_is_a_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "gated_delta" in capsys.readouterr().out


def test_a_profile_says_what_moved_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "linear/down", *SMALL, "--chip", "m4-max", "--json"]) == 0
    (profile,) = json.loads(capsys.readouterr().out)
    assert profile["use"] == "down" and profile["ratio"] == pytest.approx(1.0, abs=0.2)
    weight = next(each for each in profile["buffers"] if each["name"] == "weight")
    assert weight["loaded"] == weight["unique"] == weight["size"] == 128 * 256 // 2
    assert list(profile["chips"]) == ["m4-max"]
    spot = profile["spots"][0]
    text = metal_files().get(spot["file"]) or FOLDER / "metal" / spot["file"]
    assert spot["text"] in text.read_text().splitlines()[spot["line"] - 1]


def test_the_states_of_a_model_are_read_and_written_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = ("--shape", "qwen3-30b-a3b", "--rows", "1", "--json")
    assert main(["profile", "ssm_scan", *step, "--chip", "m1-ultra"]) == 0
    (profile,) = json.loads(capsys.readouterr().out)
    assert profile["use"] == "token" and profile["ratio"] == pytest.approx(1.0, abs=0.2)
    state = next(each for each in profile["buffers"] if each["name"] == "state")
    assert state["loaded"] == state["unique"] == state["size"] == 4 * 64 * 64 * 128


def test_the_table_names_line_chip_and_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "linear/output", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "Apple M1 Ultra" in out and "quantized.h:" in out and "not a GPU" in out


def test_a_page_with_source_and_roofline(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "kernel.html"
    assert main(["profile", "linear", *SMALL, "--html", str(page)]) == 0
    text = page.read_text()
    assert "<svg" in text and "linear.metal" in text and "[[kernel]]" in text
    assert "not a GPU" in text
    assert not any(part in text for part in ("<script", "<link", "src=", "@import"))


@pytest.mark.parametrize(
    ("arguments", "excerpt"),
    [
        (["profile", "lineal"], "there is no kernel named lineal"),
        (["profile", "linear/up", *SMALL], "its uses here: "),
        (["profile", "linear", "--shape", "llama-9"], "there is no shape named llama-9"),
        (["profile", "linear", "--chip", "m9"], "there is no chip named m9; there are m1,"),
        (["profile", "linear", *SMALL, "--capture", "x.gputrace"], "there is none here"),
        (["profile"], "NAME"),
        (["bench"], "no Metal device here, so there are no times to offer"),
        (["play"], "No such command 'play'"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], excerpt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("bessemer kernels: ") and excerpt in error
    assert error.count("\n") == 1 and error.endswith(".\n")


def test_timing_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    assert main(["bench"]) == 2
    assert "pip install pytest pytest-benchmark" in capsys.readouterr().err
