"""What llama.cpp's and vllm-mlx's clients ask of a server, while it is idle and while it works."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from bessemer.http.hub import BUILT_IN
from tests.http.running import Server, eventually, serving

SLOTS = 3
GUIDE = ("--model", f"bessemer-guide={BUILT_IN}")
LONG: dict[str, Any] = {
    "model": "bessemer-guide", "messages": [{"role": "user", "content": "Hi"}], "stream": True,
    "max_tokens": 1500, "ignore_eos": True, "temperature": 0.5, "n": 60,
}  # fmt: skip


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    with serving(*GUIDE, "--max-batch", str(SLOTS), "--threads", "1") as running:
        yield running


def get(server: Server, path: str) -> Any:
    status, body, _ = server.ask("GET", path)
    assert status == 200, body
    return body


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """Hold more answers under way than run at once: their client has read no more than a line."""
    with closing(server.connect()) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(LONG))
        response = connection.getresponse()
        assert response.status == 200 and response.readline()
        yield
        response.close()


def test_props_as_llama_cpps_own_tests_ask_for_them(small: Server) -> None:
    props = get(small, "/props")
    assert props["total_slots"] == SLOTS and props["model_alias"]
    assert props["model_path"] and "/" not in props["model_path"]
    settings = props["default_generation_settings"]
    assert settings["n_ctx"] > 1000 and settings["params"]["seed"] == -1
    assert settings["params"]["temperature"] >= 0
    assert props["modalities"] == {"vision": False, "video": False, "audio": False}
    guide = get(small, "/props?model=bessemer-guide")
    assert guide["model_alias"] == "bessemer-guide" and "messages" in guide["chat_template"]
    assert guide["eos_token"] and guide["build_info"].startswith("bessemer ")
    status, body, _ = small.ask("GET", "/props?model=absent")
    assert status == 404 and body["error"]["code"] == "model_not_found"


def test_slots_idle_and_busy(small: Server) -> None:
    where = "/slots?model=bessemer-guide&fail_on_no_slot=1"
    idle = get(small, where)
    assert [slot["id"] for slot in idle] == [*range(SLOTS)]
    assert not any(slot["is_processing"] or "params" in slot for slot in idle)
    with busy(small):
        assert eventually(lambda: small.ask("GET", where)[0] == 503)  # all run
        found: list[dict[str, Any]] = []
        assert eventually(lambda: found.extend(working(small)) or found)
        assert len(get(small, "/slots?model=bessemer-guide")) == SLOTS
        slot = found[0]
        assert slot["n_prompt_tokens"] > 3 and slot["params"]["max_tokens"] == 1500
        assert slot["params"]["temperature"] == 0.5 and "n_decoded" in slot["next_token"][0]
        assert "Hi" not in json.dumps(found)  # no text of anybody's
        assert eventually(lambda: any(each["ttft_s"] for each in requests(small)))
        assert eventually(lambda: ("running", "generation") in states(requests(small)))
        status = get(small, "/v1/status?model=bessemer-guide")
        assert status["num_running"] <= SLOTS < status["num_waiting"]
        assert ("waiting", "queued") in states(status["requests"])
        assert all(0 <= each["progress"] <= 1 for each in status["requests"])
    assert eventually(lambda: not requests(small))


def working(server: Server) -> list[dict[str, Any]]:
    slots = get(server, "/slots?model=bessemer-guide")
    return [slot for slot in slots if slot["is_processing"]]


def states(requests: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(each["status"], each["phase"]) for each in requests}


def requests(server: Server) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = get(server, "/v1/status?model=bessemer-guide")["requests"]
    return told


def test_status_counts_what_is_over(small: Server) -> None:
    where = "/v1/status?model=bessemer-guide"
    assert eventually(lambda: not requests(small))
    before = get(small, where)
    usage = small.ask(
        "POST", "/v1/chat/completions", LONG | {"stream": False, "max_tokens": 5, "n": 1}
    )
    after = get(small, where)
    assert after["total_requests_processed"] == before["total_requests_processed"] + 1
    gained = after["total_completion_tokens"] - before["total_completion_tokens"]
    assert gained == usage[1]["usage"]["completion_tokens"] == 5
    assert after["total_prompt_tokens"] > before["total_prompt_tokens"]
    assert after["status"] == "running" and after["uptime_s"] >= before["uptime_s"] > 0
    assert after["models"][after["model"]] == "ready"
    assert after["memory"]["weights_gb"] >= 0 and after["cache"]["pages"] > 0


def test_these_ask_for_a_key() -> None:
    with serving(*GUIDE, "--api-key", "secret") as server:
        for path in ("/props", "/slots", "/v1/status", "/api/tags", "/api/version", "/tokenize"):
            method = "POST" if path == "/tokenize" else "GET"
            assert server.ask(method, path, b"{}" if method == "POST" else None)[0] == 401
