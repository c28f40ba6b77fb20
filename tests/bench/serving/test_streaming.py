"""The bench of streamed tokens: what it times is what the server does, and it says what is slow."""

import json
from typing import Any

import pytest

from bessemer.bench.serving import streaming
from bessemer.bench.serving.streaming import CASES, SAID, WARM, Case, main, served, stages
from bessemer.bench.serving.tokenizing import Ways, read_ways
from bessemer.http.hub import BUILT_IN

STEPS = 3 * WARM


def test_a_stage_by_itself_makes_what_clients_of_the_server_get() -> None:
    async def played(ways: Ways) -> list[list[str]]:
        async with served(ways) as outside:
            answers = [await outside.play(case, case.tokens(ways, STEPS), 2) for case in CASES]
        return [[answer(body) for body in got] for _, got in answers]

    with read_ways(BUILT_IN) as ways:
        alone = [answer(stages(ways, case, STEPS)[1]) for case in CASES]
        together = ways.runner.run(played(ways))
    for case, text, (one, other) in zip(CASES, alone, together, strict=True):
        assert text.startswith("write:{" if case.calls else "Well: " + SAID) and len(text) > STEPS
        assert one == other and one.startswith(text)  # a call that breaks off is text in the end


def answer(body: bytes | bytearray) -> str:
    """Return the text of a stream, a call as its name and the text of its arguments."""
    lines = [line.removeprefix("data: ") for line in body.decode().splitlines()]
    return "".join(map(said, (json.loads(line) for line in lines if line[:1] == "{")))


def said(event: dict[str, Any]) -> str:
    """Return what an event of either dialect adds."""
    delta = (event.get("choices") or [event])[0].get("delta", {})
    call = (delta.get("tool_calls") or [{}])[0].get("function", {})
    call = call or event.get("content_block", {})
    name = f"{call['name']}:" if call.get("name") else ""
    own = delta.get("content") or delta.get("text") or delta.get("partial_json") or ""
    return name + own + call.get("arguments", "")


@pytest.mark.parametrize(("most", "code"), [(1e9, 0), (0.0, 1)])
def test_it_says_which_takes_too_long(
    most: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streaming, "MOST", most)
    monkeypatch.setattr(streaming, "CASES", [Case("OpenAI")])
    assert main(["--steps", str(2 * WARM), "--rounds", "1"]) == code
    assert "OpenAI: text" in capsys.readouterr().out
