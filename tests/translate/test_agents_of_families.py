"""What Claude Code and Codex send, as recorded, on the families' templates, and their calls back.

Their long texts are cut short in the records. An answer is what a template makes of a call, as in
test_calls_of_templates.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.request import Thought
from bessemer.engine.text.specials import NONE
from bessemer.translate import anthropic_request, openai_responses_request
from bessemer.translate.attribution import MARK, without_attribution
from bessemer.translate.chat import (
    AnswerStarted,
    Chat,
    Done,
    Event,
    Finish,
    Identity,
    ToolCall,
    Usage,
)
from bessemer.translate.openai_responses import ResponseWriter, encode_piece
from bessemer.translate.parsers.parser import AnswerToken
from tests.translate.called import cut
from tests.translate.families import FAMILIES
from tests.translate.prompt_ids import checkpoint
from tests.translate.responses_stream import checked
from tests.translate.test_anthropic import legal, sent
from tests.translate.test_calls_of_templates import BEGINS, written

RECORDS = Path(__file__).parents[1] / "http"
CLAUDE_CODE = json.loads((RECORDS / "claude_code_requests.json").read_text())
CODEX = json.loads((RECORDS / "codex_requests.json").read_text())
WHO = Identity("resp_7", 5, "m")
EDIT = {"file_path": "/home/me/Zü.txt", "old_string": 'a "b"\n', "new_string": "<x>&\\"}
COMMAND = {"cmd": "sed -i 's/a/\"b\"/' *.txt && cat <<E\n{1}\nE"}


@dataclass(frozen=True)
class Agent:
    """Two requests of a session, and how an answer with a call is told and read."""

    first: bytes
    last: bytes
    decode: Callable[[bytes], Chat]
    call: ToolCall
    told: Callable[[Sequence[Event]], list[tuple[str, Any]]]
    shown: tuple[str, ...]  # what prompts have: tools, what was asked
    results: tuple[str, ...]  # what the last has beside: calls and results


def claude_code() -> Agent:
    first = CLAUDE_CODE["request"]
    last = first | {
        "tools": [*first["tools"], *CLAUDE_CODE["found"]],
        "messages": [first["messages"][0], *CLAUDE_CODE["then"]],
    }
    return Agent(
        json.dumps(first).encode(),
        json.dumps(last).encode(),
        lambda body: without_attribution(anthropic_request.decode_request(body)),
        ToolCall("toolu_9", "Edit", json.dumps(EDIT)),
        anthropic_calls,
        ("You are a Claude agent", "Write numbers.txt.", "# Environment", "ToolSearch", "Write"),
        ("File created successfully", "/home/me/project/numbers.txt", "old_string", "NotebookEdit"),
    )


def codex() -> Agent:
    first = CODEX["request"]
    last = first | {"input": [*first["input"], *CODEX["then"]]}
    return Agent(
        json.dumps(first).encode(),
        json.dumps(last).encode(),
        lambda body: openai_responses_request.decode_request(body).chat(),
        ToolCall("call_9", "exec_command", json.dumps(COMMAND)),
        codex_calls,
        ("You are a coding agent", "Write hi to a.txt", "exec_command", "multi_agent_v1"),
        ("Process exited with code 0", "echo hi > a.txt"),
    )


def anthropic_calls(events: Sequence[Event]) -> list[tuple[str, Any]]:
    """Return the calls of a stream, each event of which the official package takes."""
    bodies = sent(events)
    legal(bodies)
    names = {b["index"]: b["content_block"] for b in bodies if b["type"] == "content_block_start"}
    pieces = [b for b in bodies if b["type"] == "content_block_delta"]
    return [
        (
            block["name"],
            json.loads(
                "".join(p["delta"]["partial_json"] for p in pieces if p["index"] == at) or "{}"
            ),
        )
        for at, block in names.items()
        if block["type"] == "tool_use"
    ]


def codex_calls(events: Sequence[Event]) -> list[tuple[str, Any]]:
    request = openai_responses_request.decode_request(json.dumps(CODEX["request"]).encode())
    writer = ResponseWriter(request, WHO, False, lambda: 8.5)
    pieces = [encode_piece(piece) for event in events for piece in writer.add(event)]
    items = checked([json.loads(piece.data) for piece in pieces])["output"]
    return [(i["name"], json.loads(i["arguments"])) for i in items if i["type"] == "function_call"]


AGENTS = {"claude-code": claude_code(), "codex": codex()}
EACH = pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)


def rendered(family: str, chat: Chat) -> str:
    """Return the text of a prompt, as the model is to read it."""
    prompter = checkpoint(family).prompter
    guarded = prompter.renderer.guarded(chat)
    return prompter.template.render(guarded).replace(guarded.guard or "\0", "")


@EACH
@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_have_tools_calls_and_results_and_grow_at_their_end(
    family: str, agent: Agent
) -> None:
    first, last = (rendered(family, agent.decode(each)) for each in (agent.first, agent.last))
    assert not [each for each in agent.shown if each not in first or each not in last]
    assert not [each for each in agent.results if each not in last]
    assert MARK not in last
    same = sum(
        1 for _ in takewhile(lambda each: each[0] == each[1], zip(first, last, strict=False))
    )
    assert same > len(first) - 100, "what is cached is of no use"
    ids = checkpoint(family).ids(agent.decode(agent.last))
    assert len(ids) > 100


@EACH
@pytest.mark.parametrize("family", FAMILIES)
def test_a_call_is_told_in_the_agent_s_dialect(family: str, agent: Agent) -> None:
    chat = agent.decode(agent.last)
    text = written(family, [agent.call], tools=chat.tools)
    text = text[text.index(BEGINS[family]) :] if family in BEGINS else text
    prompt = checkpoint(family).prompter.conversation(chat)
    parser = prompt.parser(0, NONE)
    if (
        parser.reasoning
        and isinstance(prompt.thought, Thought)
        and prompt.thought.close not in text
    ):
        text = prompt.thought.close + text  # which templates leave out of earlier turns
    deltas = [d for piece in cut(text, 3) for d in parser.feed(AnswerToken(None, piece))]
    start, end = AnswerStarted(Usage(9, 0)), Done(Usage(9, 9))
    events = [start, *deltas, *parser.close(), Finish(0, "tool_calls"), end]
    assert agent.told(events) == [(agent.call.name, json.loads(agent.call.arguments))]
