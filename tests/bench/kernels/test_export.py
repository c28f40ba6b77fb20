"""Tests of `bessemer kernels export` and `compile`: files, manifest, what models ask for."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bessemer.bench.kernels.cli import main
from bessemer.bench.kernels.export import FLAGS, LANGUAGES, STORAGES, of_shape
from bessemer.kernels.instances import instances
from bessemer.kernels.metal.source import metal_files, sources

from ...kernels.forms import unlisted

# A compiler that refuses what holds a mark, and notes how it was called.
COMPILER = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/calls"
for each; do case "$each" in *.metal)
  if grep -q REFUSED "$each"; then echo "$each:1: error: REFUSED is no word" >&2; exit 1; fi ;;
esac; done
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "new"
    assert main(["export", str(folder), "--shape", "tiny"]) == 0
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    texts: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())["texts"]
    return texts


def test_every_text_is_a_file_with_a_row(exported: Path) -> None:
    texts = {row["file"]: row for row in rows(exported)}
    assert texts.keys() == {path.name for path in exported.glob("*.metal")}
    for name, row in texts.items():
        text = (exported / name).read_text()
        assert text.startswith('#include "mlx.h"\n') and f"void {row['function']}(" in text
        assert row["kernel"] in sources(metal_files()[row["source"]])
        assert row["languages"] == list(LANGUAGES) and row["asked_by"]
        assert all(1 <= threads <= 1024 for threads in row["threads"])


def test_the_texts_are_the_list_and_the_shape(exported: Path) -> None:
    files = {path.name for path in exported.glob("*.metal")}
    launched = [each for storage in STORAGES for each in of_shape("tiny", storage)]
    assert files == {each.file for each in (*instances(), *launched)}
    assert {"linear", "linear_rows", "attention_tail", "sample"} <= {e.kernel for e in launched}
    asked = {row["file"]: row["asked_by"] for row in rows(exported)}
    assert all("tiny" in asked[each.file] for each in launched)


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "deepseek-v2-lite"])
def test_models_launch_no_form_that_is_not_listed(name: str) -> None:
    launched = of_shape(name, STORAGES[0])
    assert len(launched) > 10 and not [each for each in launched if unlisted(each)]


def test_the_preamble_is_mlxs_own_and_whole(exported: Path) -> None:
    text = (exported / "mlx.h").read_text()
    assert '#include "' not in text and "typedef bfloat bfloat16_t;" in text
    assert (
        "struct Limits" in text
        and text.count("typedef half float16_t;") == 1
        and "complex64_t" in text
    )


def test_old_texts_go(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "old.metal").write_text("")
    (tmp_path / "kept.txt").write_text("")
    assert main(["export", str(tmp_path), "--shape", "tiny"]) == 0
    assert not (tmp_path / "old.metal").exists() and (tmp_path / "kept.txt").exists()
    assert rows(tmp_path) == rows(exported)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An xcrun that stands for Apple's; its folder."""
    path = tmp_path / "bin" / "xcrun"
    path.parent.mkdir()
    path.write_text(COMPILER)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path.parent


def test_texts_are_compiled_and_what_is_refused_is_told(
    compiler: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    for name, text in (("a.metal", "kernel"), ("b.metal", "REFUSED")):
        (folder / name).write_text(text)
    assert main(["compile", str(folder), "--language", "3.2"]) == 1
    out, err = capsys.readouterr()
    assert out == "1 texts were refused by Metal 3.2\n" and "b.metal" in err and "no word" in err
    (refused,) = json.loads((folder / "refused-3.2.json").read_text())
    assert refused["file"] == "b.metal" and "REFUSED is no word" in refused["said"]
    calls = (compiler / "calls").read_text().splitlines()
    assert len(calls) == 2 and all("-std=metal3.2" in call for call in calls)
    assert all(flag in calls[0] for flag in FLAGS)
    (folder / "b.metal").unlink()
    assert main(["compile", str(folder)]) == 0


@pytest.mark.parametrize(
    ("arguments", "excerpt"),
    [
        (["export", "/dev/null/x"], "/dev/null/x cannot be a folder"),
        (["export", "{}", "--shape", "lama"], "there is no shape named lama"),
        (["compile", "{}"], "has no manifest.json"),
        (["compile", "{}", "--language", "2.0"], "'2.0' is not one of 3.1, 3.2, 4.0"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], excerpt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([each.format(tmp_path) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert excerpt in error and error.count("\n") == 1


def test_without_a_compiler_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["compile", str(tmp_path)]) == 2
    assert "there is no xcrun" in capsys.readouterr().err
