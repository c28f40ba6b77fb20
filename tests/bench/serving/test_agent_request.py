"""The bench of an agent's request: what it makes up, and when it says that it takes too long."""

import json
import sys

import pytest

from bessemer.bench.serving import agent_request
from bessemer.bench.serving.agent_request import main, session
from bessemer.http.hub import BUILT_IN
from bessemer.translate.openai_chat import decode_request

# An interpreter whose time is known, with our tokens or, where that is a second, others.
KNOWN = f"""
import json, sys
from pathlib import Path
from bessemer.bench.serving.tokenizing import read_ways
from bessemer.translate.openai_chat import decode_request
with read_ways(Path({str(BUILT_IN)!r})) as ways:
    for line in sys.stdin:
        ids = ways.prompt(decode_request(line.encode())).tokens
        print(json.dumps([SECONDS, ids[SECONDS == 1:]]), flush=True)
"""


def test_a_session_has_calls_and_their_results() -> None:
    chat = decode_request(json.dumps(session(20, 5)).encode())
    assert len(chat.messages) == 20 and len(chat.tools) == 5
    assert [len(each.calls) for each in chat.messages] == [0, 0, *(1, 0) * 9]
    known = {tool.name for tool in chat.tools}
    assert {call.name for each in chat.messages for call in each.calls} <= known


def test_it_reports_and_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--messages", "4", "--tools", "1", "--rounds", "1"]
    assert main(small) == 0
    assert "the next turn" in capsys.readouterr().out
    assert main([*small, "--python", sys.executable]) == 2
    assert "cannot run the peer" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "code"), [("1e9", 0), ("1e-9", 1), ("1", 2)])
def test_how_many_times_faster_it_must_be(
    seconds: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(agent_request, "THEIRS", KNOWN.replace("SECONDS", seconds))
    small = ["--messages", "4", "--tools", "1", "--rounds", "1", "--python", sys.executable]
    assert main(small) == code
    output = capsys.readouterr()
    assert ("other tokens" in output.err) == (code == 2)
