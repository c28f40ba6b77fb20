"""Claude Code itself, from its npm package, at work on a file: a scripted model calls its tools."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from anthropic import Anthropic, DefaultHttpxClient
from httpx2 import MockTransport, Response
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from tests.http.recording import Exchange, recording
from tests.http.running import events, serving
from tests.http.scripted_checkpoint import write
from tests.translate.test_anthropic import EVENTS, legal

PACKAGES = Path(__file__).parents[2] / "build/claude/node_modules/@anthropic-ai"
PROGRAMS = [*PACKAGES.glob("claude-code-*/claude")]
ENGLISH = Path(__file__).parents[2] / "README.md"
# What is written next is told by how many results there are: a step of the session.
TEMPLATE = (
    "{% for t in tools or [] %}<tool_call>{{ t | tojson }}{% endfor %}"
    "{% for m in messages %}<|start|>{{ m.role }} {{ m.content }}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}{% endfor %}"
    "<|end|>{% endfor %}"
    "<|step{{ messages | selectattr('role', 'equalto', 'tool') | list | length }}|>"
)
PAGES = 2 * 32  # tokens


def answers(path: Path) -> list[str]:
    """Return what the model says: a search for a tool, two calls that change a file, its report."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("ToolSearch", {"query": "select:NotebookEdit", "max_results": 1}),
        ("Write", {"file_path": str(path), "content": "one\ntwo\n"}),
        ("Edit", {"file_path": str(path), "old_string": "two", "new_string": "2"}),
    ]
    written = [json.dumps({"name": name, "arguments": about}) for name, about in calls]
    thoughts = (f"<think>Step {at}.</think>I call." for at in range(len(calls)))
    called = [f"{t}<tool_call>{c}</tool_call>" for t, c in zip(thoughts, written, strict=True)]
    return [*called, "numbers.txt is ready."]


def checkpoint(path: Path, texts: Sequence[str]) -> Path:
    """Write a model that says these texts, each in two tokens, after the marks of their steps."""
    encoding = _english()
    steps = [f"<|step{at}|>" for at in range(len(texts))]
    marks = ["<|start|>", "<|end|>", *steps]
    encoding.add_special_tokens([AddedToken(each, normalized=False) for each in marks])
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in texts]
    encoding.add_tokens([AddedToken(h, normalized=False) for both in halves for h in both])
    names = [n for s, both in zip(steps, halves, strict=True) for n in (s, *both, "<|end|>")]
    script = [token for name in names if (token := encoding.token_to_id(name)) is not None]
    assert len(script) == len(names)
    return write(path, encoding, script, TEMPLATE, "<|end|>", context=2**17)


def _english() -> tokenizers.Tokenizer:
    """Return a tokenizer that has the words of a page, so that prompts are not many tokens."""
    encoding = tokenizers.Tokenizer(models.BPE())
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoding.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    encoding.train_from_iterator([ENGLISH.read_text()], trainer)
    return encoding


def session(folder: Path, url: str, ask: str, *more: str) -> dict[str, Any]:
    """Let Claude Code work in a folder until it is done; return what it reports."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    ran = subprocess.run(
        [
            *(str(PROGRAMS[0]), "-p", ask, "--model", "coder", *more),
            *("--output-format", "json", "--dangerously-skip-permissions"),
        ],
        cwd=folder / "project",
        env={  # nothing of whoever runs the test
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "x",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1",  # or root may not let it do as it likes
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


def read(exchange: Exchange) -> Any:
    """Return the message that a stream is to the official package, which takes all its events."""
    told = [data for _, data in events(exchange.answer.splitlines())]
    for event in told:
        if event["type"] != "ping":
            EVENTS.validate_python(event)
    legal(told)
    headers = {"content-type": "text/event-stream"}
    answer = Response(exchange.status, content=exchange.answer, headers=headers)
    with (
        DefaultHttpxClient(transport=MockTransport(lambda _: answer)) as http,
        Anthropic(api_key="x", base_url="http://there", http_client=http) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[]) as stream,
    ):
        return stream.get_final_message()


@pytest.mark.long
@pytest.mark.skipif(not PROGRAMS, reason="make build/claude/fetched")
def test_claude_code_writes_and_edits_a_file(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    file = project / "numbers.txt"
    texts = answers(file)
    model = checkpoint(tmp_path / "model", texts)
    with (
        serving("--threads", "2", "--model", f"coder={model}") as server,
        recording(server.port) as (url, passed),
    ):
        reports = [session(tmp_path, url, "Write numbers.txt.")]
        reports += [session(tmp_path, url, "Is it there?", "--continue")]
        counted = session(tmp_path, url, "/context")["result"]
    assert "Context Usage" in counted and any("count_tokens" in each.path for each in passed)
    assert [(each["is_error"], each["result"]) for each in reports] == [(False, texts[-1])] * 2
    assert file.read_text() == "one\n2\n"
    refused = [(each.path, each.answer) for each in passed if each.status != 200]
    assert not refused
    told = [read(each) for each in passed if each.path == "/v1/messages?beta=true"]
    assert [m.stop_reason for m in told] == ["tool_use"] * 3 + ["end_turn"] * 2
    assert [[b.type for b in m.content] for m in told[:3]] == [["thinking", "text", "tool_use"]] * 3
    prompts = [m.usage.input_tokens + _cached(m) + _created(m) for m in told]
    assert prompts == sorted(prompts) and prompts[0] > 10_000
    print(prompts, [_cached(message) for message in told])
    for before, message in zip(prompts, told[1:], strict=False):
        assert _cached(message) > before - PAGES  # only what is new is computed


def _cached(message: Any) -> int:
    return message.usage.cache_read_input_tokens or 0


def _created(message: Any) -> int:
    return message.usage.cache_creation_input_tokens or 0
