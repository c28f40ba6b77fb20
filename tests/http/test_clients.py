"""Packages that applications are written with, each against the live server: http/clients/."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.http.gguf_models import DEFAULT, packaged
from tests.engine.minilm import directory
from tests.http.running import Server, serving
from tests.http.scripted_checkpoint import write
from tests.http.test_serve_tools import TURNS
from tests.translate.scripted import Scripted

HERE = Path(__file__).parent / "clients"
PYTHON = Path(__file__).parents[2] / "build" / "clients" / "bin" / "python"
# The last turn tells whether tools have answered: the script goes on from a token of its own.
TEMPLATE = TURNS + "{% if messages[-1].role == 'tool' %}<|heard|>{% endif %}"
CALLS = ('"get_weather", "arguments": {"city": "Zü\\"r", "days": 3}', '"clock", "arguments": {}')
SAYS = "I look.\n" + "\n".join(f'<tool_call>\n{{"name": {c}}}\n</tool_call>' for c in CALLS)
HEARD = "<|end|><|heard|>It is 4 degrees.<|end|>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = Scripted(TEMPLATE, SAYS + HEARD, ["<|start|>", "<|end|>", "<|heard|>"])
    folder = tmp_path_factory.mktemp("clients") / "agent"
    agent = write(folder, model.tokenizer.encoding, model.script(8), TEMPLATE, "<|end|>")
    models = {DEFAULT: packaged(DEFAULT), "agent": agent, "minilm": directory()}
    with serving(*(f"--model={name}={path}" for name, path in models.items())) as running:
        yield running


@pytest.mark.long
@pytest.mark.parametrize("checks", sorted(path.name for path in HERE.glob("check_*.py")))
def test_a_package_is_content(server: Server, checks: str) -> None:
    if not PYTHON.exists():
        pytest.skip("the packages are not there: make test-long installs them")
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    run = subprocess.run(
        [*command, "--rootdir", HERE, "--confcutdir", HERE, HERE / checks],
        env=os.environ | {"BESSEMER_URL": server.url},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
