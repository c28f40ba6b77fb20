"""Codex itself, from its npm package, at work on a file: the calls are a scripted backend's."""

import json
import os
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bessemer.translate.chat import (
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Done,
    Event,
    Finish,
    GenerateRequest,
    Heartbeat,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    Usage,
)
from tests.http.responses.gated import keeping
from tests.http.toy import ToyBackend

CODEX = Path(__file__).parents[3] / "build/codex/node_modules/.bin/codex"
CONFIG = """
model = "coder"
model_provider = "bessemer"
[model_providers.bessemer]
name = "Bessemer"
base_url = "{url}"
wire_api = "responses"
"""
COMMANDS = (
    "printf 'one\\ntwo\\n' > numbers.txt",
    "sed -i 's/two/2/' numbers.txt && cat numbers.txt",
)


@dataclass
class Coder(ToyBackend):
    """Writes a file, edits it once it has seen that it was written, and says so."""

    async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        assert isinstance(request, Chat)
        done = sum(turn.role == "tool" for turn in request.messages)
        yield AnswerStarted(Usage(9, 0))
        yield Heartbeat()
        yield ReasoningDelta(0, f"Step {done}.")
        if done < len(COMMANDS):
            yield TextDelta(0, "I use the shell.")
            yield ToolCallBegun(0, 0, f"call_{done}", "exec_command")
            written = json.dumps({"cmd": COMMANDS[done]})
            for at in range(0, len(written), 7):
                yield ArgumentsDelta(0, 0, written[at : at + 7])
            yield Finish(0, "tool_calls")
        else:
            yield TextDelta(0, "numbers.txt is ready.")
            yield Finish(0, "stop")
        yield Done(Usage(9, 9))


@pytest.mark.long
@pytest.mark.skipif(not CODEX.exists(), reason="make build/codex/fetched")
def test_codex_writes_and_edits_a_file(tmp_path: Path) -> None:
    coder, home, project = Coder("coder"), tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    with keeping(coder) as url:
        (home / "config.toml").write_text(CONFIG.format(url=url))
        ran = subprocess.run(
            [
                *(str(CODEX), "exec", "--skip-git-repo-check"),
                *("--dangerously-bypass-approvals-and-sandbox", "Write numbers.txt."),
            ],
            cwd=project,
            env=os.environ | {"CODEX_HOME": str(home), "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert ran.returncode == 0, ran.stderr
    assert (project / "numbers.txt").read_text() == "one\n2\n"
    assert ran.stdout.strip() == "numbers.txt is ready."
    assert "Step 0." in ran.stderr and "I use the shell." in ran.stderr
    chats = [chat for chat in coder.requests if isinstance(chat, Chat)]
    assert len(chats) == len(COMMANDS) + 1
    last = chats[-1].messages
    assert [turn.role for turn in last[-4:]] == ["assistant", "tool", "assistant", "tool"]
    assert [turn.reasoning for turn in last if turn.calls] == ["Step 0.", "Step 1."]
    assert "one\n2\n" in last[-1].text
