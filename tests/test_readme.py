"""The README says what is there: its help text, its files, its Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.http.running import COMMAND, serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_help_text_is_the_commands() -> None:
    found = subprocess.run(
        [*COMMAND, "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
    ).stdout
    assert found.strip() in README


@pytest.mark.parametrize(
    "folder", ["kernels", "architectures", "engine", "translate", "http", "bench"]
)
def test_the_file_map_is_complete(folder: str) -> None:
    table = README.split("| folder | file |")[1].split("\n\n")[0]
    rows = re.split(r"\| `(\w+)/` \|", table)
    section = dict(zip(rows[1::2], rows[2::2], strict=True))[folder]
    named = set(re.findall(r"`([\w.*]+)`", section)) | set(re.findall(r"`(\w+)/`", section))
    for path in (ROOT / folder).glob("*.py"):
        assert any(re.fullmatch(n.replace("*", ".*"), path.stem) for n in named), path
    for name in named:
        assert [*(ROOT / folder).glob(name), *(ROOT / folder).glob(f"{name}.py")], name


def test_the_python_in_it_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    clients, in_process = blocks
    found = subprocess.run(
        [sys.executable, "-c", in_process], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(found.stdout) > 10
    with serving() as server:
        code = clients.replace("http://127.0.0.1:8000", server.url)
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
