"""`bessemer route`: by the configuration alone, and by a server that runs."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bessemer.http.cli import main

CONFIG = """
[server]
port = {port}
api_key = "k-1"
[[models]]
name = "own"
path = "{missing}"
[[models]]
path = "someone/never-seen"
[providers.openai]
url = "http://127.0.0.1:9"
models = ["gpt-5"]
[[routes]]
pattern = "laude"
provider = "openai"
fallbacks = ["own"]
[[routes]]
name = "code"
description = "Programs."
provider = "openai"
model = "coder"
[auto_router]
enabled = true
"""


class Told(BaseHTTPRequestHandler):
    """A server that says where requests for `auto` would go, and has no other name."""

    asked: list[tuple[str, str | None, object]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, self.headers["authorization"], body))
        fine = "teapot" not in body["messages"][0]["content"]
        told = {"by": "auto code", "targets": ["openai/coder", "local/own"], "steps": ["It was."]}
        answer = told if fine else {"error": {"message": "There is no model 'auto' here."}}
        self.send_response(200 if fine else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_models_of_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BESSEMER_MODELS", raising=False)


@pytest.fixture
def served() -> Iterator[HTTPServer]:
    Told.asked = []
    with HTTPServer(("127.0.0.1", 0), Told) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def configured(folder: Path, port: int = 1) -> str:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(port=port, missing=folder / "missing"))
    return str(path)


def route(*arguments: str) -> int:
    return main(["route", *arguments])


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("own", "local: local/own"),  # though there is nothing at its path
        ("someone/never-seen", "local: local/someone/never-seen"),  # and nothing is downloaded
        ("a-claude", "pattern: openai/a-claude, then local/own"),
        ("gpt-5", "provider: openai/gpt-5"),
        ("auto", "default: local/own"),
    ],
)
def test_the_steps_and_the_targets(
    name: str, last: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert route(name, "--config", configured(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == last and len(lines) > 1
    assert ("--prompt" in lines[0]) == (name == "auto")


def test_a_name_that_leads_nowhere_is_the_404_s_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert route("never", "--config", configured(tmp_path)) == 2
    said = capsys.readouterr()
    assert said.out == "" and "no model 'never' here" in said.err


def test_a_profile_s_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BESSEMER_CONFIG_DIR", str(tmp_path))
    (tmp_path / "config.work.toml").write_text('[aliases]\nquick = "bessemer-guide"\n')
    assert route("quick", "--profile", "work") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "alias quick: local/bessemer-guide"


def test_a_prompt_is_read_by_the_server_that_runs(
    served: HTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, served.server_port)
    assert route("auto", "--prompt", "Fix it.", "--config", config) == 0
    assert capsys.readouterr().out.splitlines() == [
        "It was.",
        "auto code: openai/coder, then local/own",
    ]
    body = {"model": "auto", "messages": [{"role": "user", "content": "Fix it."}]}
    assert Told.asked == [("/v1/route", "Bearer k-1", body)]
    assert route("auto", "--prompt", "teapot", "--config", config) == 2
    assert "no model 'auto'" in capsys.readouterr().err
    assert route("own", "--prompt", "Fix it.", "--config", config) == 0  # nobody reads it
    assert "does not read" in capsys.readouterr().out and len(Told.asked) == 2


def test_without_a_server_one_sentence_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert route("auto", "--prompt", "Fix it.", "--config", configured(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "no server of ours answers at 127.0.0.1:1" in said and "bessemer serve" in said
