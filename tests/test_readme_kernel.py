"""The tutorial of kernels/README.md, followed to the letter in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTION = (
    (ROOT / "kernels" / "README.md")
    .read_text()
    .split("## Write a kernel in ten minutes\n")[1]
    .split("\n## ")[0]
)
COPIED = ("kernels", "bench", "tests", "engine", "architectures", "translate", "http")
IGNORED = shutil.ignore_patterns("__pycache__", "golden", "*.safetensors", "guide")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with what the section adds; its folder is named like the package."""
    root = tmp_path_factory.mktemp("copy") / "bessemer"
    root.mkdir()
    for folder in COPIED:
        shutil.copytree(ROOT / folder, root / folder, ignore=IGNORED)
    shutil.copy(ROOT / "pyproject.toml", root)
    for path, text in re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)```", SECTION, re.DOTALL):
        assert not (root / path).exists()
        (root / path).write_text(text)
    for (name, path), row in zip(*tables(), strict=True):
        text = (root / path).read_text()
        start = text.index("{\n", text.index(f"\n{name}")) + 2
        (root / path).write_text(f"{text[:start]}{row}\n{text[start:]}")
    return root


def test_it_names_five_files_and_three_commands(copy: Path) -> None:
    added = {p.relative_to(copy) for p in copy.rglob("*softcap*") if p.is_file()}
    assert len(added) == 4 and len(commands()) == 3


def tables() -> tuple[list[tuple[str, str]], list[str]]:
    """The name and the file of each table that gets a row, and the rows."""
    (match,) = re.findall(r"tables, (.*?):\n\n```\n(.*?)```", SECTION, re.DOTALL)
    return re.findall(r"`(\w+)` of `([\w/.]+)`", match[0]), match[1].splitlines()


def commands() -> list[str]:
    return re.findall(r"^\.venv/bin/.*$", SECTION, re.MULTILINE)


@pytest.mark.parametrize("number", range(3))
def test_its_commands_work(number: int, copy: Path) -> None:
    command = commands()[number].replace(".venv/bin", str(Path(sys.executable).parent))
    path = os.pathsep.join([str(copy.parent), str(copy)])
    done = subprocess.run(
        command.split(),
        cwd=copy,
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    oracle = ("[100%]", "softcap, logits: ", "mutants noticed (100.0%)")
    assert oracle[number] in done.stdout


def test_what_it_adds_keeps_the_style(copy: Path) -> None:
    added = [str(path) for path in copy.rglob("*softcap*.py")]
    added += [str(copy / path) for _, path in tables()[0]]
    for command in (["check", "--select", "E,F,W,I,UP,B"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", str(copy / "pyproject.toml")]
        if subprocess.run([*ruff[:3], "--version"], capture_output=True, check=False).returncode:
            pytest.skip("ruff is of the tools for checks")
        done = subprocess.run([*ruff, *added], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
