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


def test_streams_begin_while_they_wait() -> None:
    with serving("--max-batch", "1") as server:
        long = long_chat("iron") | {"max_tokens": 700, "ignore_eos": True}
        busy = server.stream("/v1/chat/completions", long)
        next(busy)
        waiting = {
            path: server.stream(path, long_chat("coal") | {"max_tokens": 5})
            for path in ("/v1/chat/completions", "/v1/messages")
        }
        openai_events = list(waiting["/v1/chat/completions"])
        empty = {"index": 0, "delta": {"content": ""}, "logprobs": None, "finish_reason": None}
        assert openai_events[0][1]["choices"] == [empty] and openai_events[-1][1] == "[DONE]"
        names = [name for name, _ in waiting["/v1/messages"]]
        assert names[0] == "message_start" and names[-1] == "message_stop"
        assert list(busy)[-1][1] == "[DONE]"


def test_a_long_prompt_s_progress_is_streamed() -> None:
    """llama.cpp's test of `return_progress`: the first report has what was cached, the last all."""
    progress: list[list[dict[str, Any]]] = []
    with serving("--chunk", "16") as server:
        ask = long_chat("iron") | {"return_progress": True, "timings_per_token": True}
        for _ in range(2):
            events = [e for _, e in server.stream("/v1/chat/completions", ask | {"max_tokens": 3})]
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


def test_a_long_prompt_is_not_silent() -> None:
    """Clients count events, and no comments, as signs of life: each dialect sends its own."""
    with serving("--chunk", "8", "--heartbeat", "0.001") as server:
        ask = long_chat("copper") | {"max_tokens": 3}
        names = [name for name, _ in server.stream("/v1/messages", ask)]
        assert names[:2] == ["message_start", "ping"] and names[2:].count("ping") > 0
        assert names[-1] == "message_stop"
        ask = long_chat("river") | {"max_tokens": 3}
        events = [e for _, e in server.stream("/v1/chat/completions", ask)]
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
                    assert told["processed"] < told["total"] // 2
                    return int(told["processed"])
    raise AssertionError("the answer came to an end")


def test_an_abandoned_prompt_s_pages_serve_the_retry() -> None:
    with serving("--chunk", "8") as server:
        read = leave(server, long_chat("bridge"), 200)
        ask = long_chat("bridge") | {"max_tokens": 2}
        usage = server.ask("POST", "/v1/chat/completions", ask)[1]["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert read // 32 * 32 <= cached < usage["prompt_tokens"] - 64


@pytest.fixture(scope="module")
def overflowing() -> Iterator[Server]:
    with serving("--context-overflow", "summarize") as server:
        yield server


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
