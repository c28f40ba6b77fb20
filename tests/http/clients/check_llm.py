"""The program `llm` as its users configure it: prompts, streams, tools, schemas, embeddings."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import AGENT, ANSWER, MODEL, QUESTION

LLM = Path(sys.executable).with_name("llm")
TOOLS = '''
def get_weather(city: str, days: int) -> str:
    """Say how warm it is."""
    return "4"


def clock() -> str:
    """Say how late it is."""
    return "9:00"
'''
MODELS = """
- model_id: {name}
  model_name: {name}
  api_base: {url}/v1
  api_key_name: x
  supports_tools: true
  supports_schema: true
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def llm(url: str, tmp_path: Path) -> Run:
    """Return what runs the program in a home of its own that knows our models."""
    entries = (MODELS.format(name=name, url=url) for name in (AGENT, MODEL))
    (tmp_path / "extra-openai-models.yaml").write_text("".join(entries))
    (tmp_path / "tools.py").write_text(TOOLS)
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "HOME": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [LLM, *arguments, "--key", "x"],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.mark.parametrize("stream", [(), ("--no-stream",)])
def test_an_answer(llm: Run, stream: tuple[str, ...]) -> None:
    done = llm("-m", MODEL, "Name a colour.", "-o", "max_tokens", "20", "-s", "Be short.", *stream)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_tools_are_called(llm: Run) -> None:
    done = llm("-m", AGENT, QUESTION, "--functions", "tools.py", "--td")
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout
    assert "get_weather" in done.stderr and "clock" in done.stderr


def test_a_schema_is_kept(llm: Run) -> None:
    done = llm("-m", MODEL, "--schema", "rain bool, days int", "Report it.", "--no-stream")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert isinstance(report["rain"], bool) and isinstance(report["days"], int)


def test_a_conversation_goes_on(llm: Run) -> None:
    first = llm("-m", MODEL, "Say a word.", "-o", "max_tokens", "8")
    assert first.returncode == 0, first.stderr
    again = llm("-m", MODEL, "-c", "Again.", "-o", "max_tokens", "8")
    assert again.returncode == 0, again.stderr


def test_an_error_says_what_is_wrong(llm: Run) -> None:
    done = llm("-m", MODEL, "Hi " * 20000)
    assert done.returncode == 1
    assert "context" in done.stderr
