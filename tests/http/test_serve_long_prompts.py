"""Long prompts over the whole server: what is streamed meanwhile, what stays of them."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from bessemer.http.hub import BUILT_IN_NAME
from tests.http.running import Server, events, serving

CHAT: dict[str, Any] = {"model": BUILT_IN_NAME}
USAGE: dict[str, dict[str, Any]] = {  # what asks for it in a stream
    "/v1/chat/completions": {"stream_options": {"include_usage": True}},
    "/v1/messages": {},
}


def long_chat(word: str) -> dict[str, Any]:
    return CHAT | {"messages": [{"role": "user", "content": f"{word} steel furnace " * 150}]}


@pytest.fixture(scope="module")
def overflowing() -> Iterator[Server]:
    with serving("--context-overflow", "summarize", "--heartbeat", "60") as server:
        yield server


def test_streams_begin_whatever_their_model_is_at(overflowing: Server) -> None:
    """Their worker stands still; a heartbeat would come after the client's patience is over."""
    (worker,) = overflowing.workers()
    worker.suspend()
    try:
        for path, begins in (("/v1/chat/completions", b"data: {"), ("/v1/messages", b": ")):
            ask = long_chat("coal") | {"max_tokens": 5, "stream": True}
            with closing(overflowing.connect()) as connection:
                connection.request("POST", path, json.dumps(ask).encode())
                with connection.getresponse() as response:
                    assert response.status == 200 and response.readline().startswith(begins)
    finally:
        worker.resume()
    ask = long_chat("coal") | {"max_tokens": 5}
    assert overflowing.ask("POST", "/v1/chat/completions", ask)[0] == 200


@pytest.fixture(scope="module")
def slow() -> Iterator[Server]:
    """A server whose prompts take very many steps, and that says so all the time."""
    with serving("--chunk", "2", "--heartbeat", "0.001") as server:
        yield server


def test_a_long_prompt_s_progress_is_streamed(slow: Server) -> None:
    """llama.cpp's test of `return_progress`: the first report has what was cached, the last all."""
    progress: list[list[dict[str, Any]]] = []
    ask = long_chat("iron") | {"return_progress": True, "timings_per_token": True}
    for _ in range(2):
        events = [e for _, e in slow.stream("/v1/chat/completions", ask | {"max_tokens": 3})]
        roles = [e for e in events[:-1] if e["choices"][0]["delta"].get("role")]
        assert len(roles) == 1 and events[-2]["timings"]["predicted_n"] == 3
        progress.append([e["prompt_progress"] for e in events[:-1] if "prompt_progress" in e])
    for told in progress:
        processed = [each["processed"] for each in told]
        assert processed == sorted({*processed}) and processed[-1] == told[0]["total"]
        about = processed[-1], processed[0]
        assert {(each["total"], each["cache"]) for each in told} == {about}
    cold, warm = progress
    assert cold[0]["cache"] == 0 < warm[0]["cache"] and len(cold) > 20
    assert 0 <= cold[0]["time_ms"] < cold[-2]["time_ms"] <= cold[-1]["time_ms"]


def test_a_long_prompt_is_not_silent(slow: Server) -> None:
    """Clients count events, and no comments, as signs of life: each dialect sends its own."""
    ask = long_chat("copper") | {"max_tokens": 3}
    names = [name for name, _ in slow.stream("/v1/messages", ask)]
    assert names[:2] == ["message_start", "ping"] and names[2:].count("ping") > 0
    assert names[-1] == "message_stop"
    ask = long_chat("river") | {"max_tokens": 3}
    events = [e for _, e in slow.stream("/v1/chat/completions", ask)]
    deltas = [e["choices"][0]["delta"] for e in events[:-1]]
    begun = next(at for at, delta in enumerate(deltas) if "role" in delta)
    assert deltas[begun + 1] == {"content": ""}


def leave(server: Server, body: dict[str, Any], tokens: int) -> int:
    """Ask for a stream, and hang up once so much of the prompt is read; return how much was."""
    ask = body | {"stream": True, "return_progress": True}
    with closing(server.connect()) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(ask).encode())
        with connection.getresponse() as response:
            for _, event in events(response):
                told = event.get("prompt_progress", {"processed": 0})
                if told["processed"] >= tokens:
                    return int(told["processed"])
    raise AssertionError("the answer came to an end")


def test_an_abandoned_prompt_s_pages_serve_the_retry(slow: Server) -> None:
    read = leave(slow, long_chat("bridge"), 200)
    ask = long_chat("bridge") | {"max_tokens": 2}
    usage = slow.ask("POST", "/v1/chat/completions", ask)[1]["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert 192 <= read // 32 * 32 <= cached


def too_long(turns: int = 160) -> dict[str, Any]:
    roles = ("user", "assistant")
    said = [{"role": roles[at % 2], "content": f"{at} is a number. " * 8} for at in range(turns)]
    return CHAT | {"messages": [*said, {"role": "user", "content": "Which?"}], "max_tokens": 5}


@pytest.mark.parametrize("policy", ["summarize", "truncate"])
def test_what_was_done_with_too_long_a_prompt_is_said(overflowing: Server, policy: str) -> None:
    """V6 over the whole server; a summary is what it does unless a request says otherwise."""
    ask = too_long() | ({} if policy == "summarize" else {"context_overflow": policy})
    for path in ("/v1/chat/completions", "/v1/messages"):
        status, body, headers = overflowing.ask("POST", path, ask)
        assert status == 200 and headers["x-context-overflow"] == policy
        told = body["usage"]["context_overflow"]
        assert told["policy"] == policy and told["tokens"] == 0
        assert told["messages"] == 155 if policy == "summarize" else 100 < told["messages"] < 160
        last = [data for _, data in overflowing.stream(path, ask | USAGE[path])][-2]
        assert last["usage"]["context_overflow"] == told


def test_too_long_a_prompt_is_refused_in_each_dialect_s_words(overflowing: Server) -> None:
    ask = too_long() | {"context_overflow": "error"}
    for path, stream in ((path, stream) for path in USAGE for stream in (False, True)):
        status, body, _ = overflowing.ask("POST", path, ask | {"stream": stream})
        assert status == 400 and re.search(r"\d+ tokens.* \d+", body["error"]["message"])
        if path == "/v1/messages":
            assert body["error"]["message"].startswith("prompt is too long: ")
        else:
            assert body["error"]["code"] == "context_length_exceeded"


def test_a_bare_prompt_that_is_too_long_loses_its_beginning(overflowing: Server) -> None:
    ask = CHAT | {"prompt": "coal iron steel " * 9000, "context_overflow": "truncate"}
    usage = overflowing.ask("POST", "/v1/completions", ask)[1]["usage"]
    assert usage["context_overflow"]["tokens"] > 0 == usage["context_overflow"]["messages"]


def test_claude_code_s_second_turn_computes_what_is_new_and_two_pages_at_most(
    slow: Server,
) -> None:
    """Its first system line is new with each request; all else is as it sends it."""
    tool = {"name": "Read", "input_schema": {"type": "object", "properties": {"path": {}}}}
    marked = {"cache_control": {"type": "ephemeral"}}
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "Read a."}]}]

    def turn(stamp: str) -> dict[str, Any]:
        line = f"x-anthropic-billing-header: cc_version=2.1.37; cch={stamp};"
        texts = (line, "You are Claude Code.", "iron steel furnace " * 60)
        system = [{"type": "text", "text": text, **marked} for text in texts]
        about = {"system": system, "tools": [tool], "messages": messages, "max_tokens": 8}
        status, body, headers = slow.ask("POST", "/v1/messages?beta=true", CHAT | about)
        assert status == 200 and headers["request-id"]
        usage: dict[str, Any] = body["usage"]
        return usage | {"whole": sum(usage[name] for name in usage if "input_tokens" in name)}

    first = turn("3f8a1")
    call = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "copper " * 20}
    messages += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    second = turn("0c2")
    new = second["whole"] - first["whole"]
    assert 0 < new < second["whole"] - second["cache_read_input_tokens"] <= new + 64
    assert first["cache_creation_input_tokens"] > 0 < second["cache_creation_input_tokens"]
