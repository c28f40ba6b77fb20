"""`bessemer bench host` on a small shape: its table, its page, its mistakes."""

import json
import sys
from pathlib import Path

import pytest

from bessemer.bench.compare import cli
from bessemer.bench.host.measure import HostFigure
from bessemer.bench.host.show import Terms, flames, functions, page

QUICK = ["--shape", "tiny", "--context", "40", "--steps", "3", "--streams", "1,2"]


def test_figures_of_our_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["host", *QUICK, "--json", "--chip", "m1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["about"] == "a model of time, not a measurement on a GPU"
    one, two = report["figures"]
    assert (one["who"], one["streams"], two["streams"]) == ("bessemer", 1, 2)
    for figure in (one, two):
        assert 0 < figure["busy"] <= 1 and figure["host"] > 0 and figure["prompt"] > 0
        assert figure["gpu"] == pytest.approx(figure["busy"] * figure["step"])
        tokens = figure["streams"] / figure["step"] * 1e3
        assert figure["tokens_per_second"] == pytest.approx(tokens)
    launches = {name: count for name, count, _ in one["kernels"]}
    assert launches["linear"] == 4 * 2 + 1 and launches["sample"] == 1
    assert launches["attention_tail"] == 2 and one["text"] > 1
    # Beside the layers: tokens to rows, where they are, how they are turned, and no more.
    assert launches["embedding"] == launches["Concatenate"] == launches["AsType"] == 1
    assert "Full" not in launches and launches["Multiply"] == 3


def test_a_slower_host_makes_a_slower_step(capsys: pytest.CaptureFixture[str]) -> None:
    steps = []
    for scale in ("1", "20"):
        arguments = [*QUICK, "--json", "--streams", "1", "--host-scale", scale]
        assert cli.main(["host", *arguments]) == 0
        report = json.loads(capsys.readouterr().out)
        steps.append(report["figures"][0]["step"])
        assert f"host-scale {scale}; an assumption" in report["notes"][1]
    assert steps[1] > 4 * steps[0]


def test_a_prompt_beside_streams_makes_them_wait(capsys: pytest.CaptureFixture[str]) -> None:
    """A step that reads a chunk of 256 tokens takes longer than one that only decodes."""
    assert cli.main(["host", *QUICK, "--json", "--streams", "2", "--beside", "700"]) == 0
    (figure,) = json.loads(capsys.readouterr().out)["figures"]
    assert figure["gap"] > figure["step"] > 0 and figure["chunk"] > 0


def test_the_table_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = ["--html", str(tmp_path / "host.html")]
    assert cli.main(["host", *QUICK, "--steps", "12", *to]) == 0
    out = capsys.readouterr().out
    assert "not a measurement on a GPU" in out and "left out: MLX's encoding" in out
    text = (tmp_path / "host.html").read_text()
    assert "bessemer bench host --shape tiny" in text and "Engine.step" in text
    assert "not a measurement on a gpu" in text.lower() and "2 streams" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--chip", "m9"], "there is no chip named m9"),
        (["--shape", "gpt-17"], "no shape is called 'gpt-17'"),
        (["--streams", "x"], "streams"),
        (["--host-scale", "0"], "host-scale"),
        (["--mlx-lm-python", "/nowhere/python"], "/nowhere/python does not run"),
        (["--html", "/nowhere/at/all.html"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["host", *QUICK, "--streams", "1", *arguments]) != 0
    assert sentence in capsys.readouterr().err


def test_an_interpreter_without_mlx_lm_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours has none."""
    arguments = [*QUICK, "--streams", "1", "--mlx-lm-python", sys.executable]
    assert cli.main(["host", *arguments]) == 2
    assert "mlx_lm did not run under the clock: ModuleNotFoundError" in capsys.readouterr().err


def figure(*stacks: tuple[list[str], float]) -> HostFigure:
    return HostFigure("ours", 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, [], list(stacks))


def test_a_flame_graph_has_the_widths_of_its_functions() -> None:
    boxes = flames(figure((["a", "b"], 3.0), (["a", "c"], 1.0), (["d"], 4.0)))
    assert [(box.text, box.left, box.width, box.row) for box in boxes] == [
        ("a", 0, 50, 0),
        ("b", 0, 37.5, 1),
        ("c", 37.5, 12.5, 1),
        ("d", 50, 50, 0),
    ]
    assert boxes[1].title == "b: 3.000 ms a step, 37.5 %"


def test_functions_count_by_themselves_and_mlx_by_who_asks() -> None:
    stacks = [(["a", "b"], 3.0), (["x", "b"], 1.0), (["b", "mlx.core"], 2.0), (["b"], 0.5)]
    assert functions(figure(*stacks)) == [("b", 4.5), ("b > mlx.core", 2.0)]


def test_names_on_a_page_are_escaped() -> None:
    text = page([figure((["x <lambda>"], 1.0))], Terms("bench", "m", "chip", 1.0, ("a & b",)))
    assert "&lt;lambda&gt;" in text and "a &amp; b" in text
