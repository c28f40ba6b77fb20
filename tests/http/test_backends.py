"""Tests of which model answers to a name."""

from typing import Any

import pytest

from bessemer.engine.embedding.sentence_transformers import Purpose
from bessemer.engine.request import Refusal
from bessemer.http.backends import Backends, Status, other_purpose


def test_names_exact_first_then_the_last_part() -> None:
    first: Any = object()
    second: Any = object()
    backends = Backends({"org/Qwen3": first, "qwen3": second, "other/Llama": first})
    assert backends.find("org/Qwen3") is first and backends.find("qwen3") is second
    assert backends.find("LLAMA") is first and backends.find("x/llama") is first
    for unknown in ("QWEN3", "none"):
        with pytest.raises(Refusal) as caught:
            backends.find(unknown)
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_a_tag_may_be_left_out_and_latest_is_as_good_as_none() -> None:
    """As clients of Ollama name models; another tag is another model."""
    plain, small, a, b = (object() for _ in range(4))
    names: Any = {"org/Plain": plain, "one:small": small, "two:a": a, "two:b": b}
    backends = Backends(names)
    for name in ("Plain:latest", "plain:latest", "org/Plain:latest", "plain"):
        assert backends.find(name) is plain
    for name in ("one", "ONE:small", "one:latest"):
        assert backends.find(name) is small
    assert backends.find("two:b") is b
    for unknown in ("plain:small", "one:large", "two", "two:latest", ":latest"):
        with pytest.raises(Refusal):
            backends.find(unknown)


def test_who_names_no_model_gets_the_first() -> None:
    first: Any = object()
    assert Backends({"b": first, "a": object()}).find("") is first  # type: ignore[dict-item]
    with pytest.raises(Refusal):
        Backends({}).find("")


def test_who_names_a_model_of_anthropic_s_gets_it_or_the_first() -> None:
    """As Claude Code does for its helpers, whatever model its user named."""
    first, own = object(), object()
    named: Any = {"b": first, "claude-haiku-5-5": own}
    assert Backends(named).find("claude-haiku-5-5") is own
    assert Backends(named).find("claude-opus-5-5") is first
    for unknown in ("claude", "haiku", "gpt-5"):
        with pytest.raises(Refusal):
            Backends(named).find(unknown)


def test_what_a_model_is_not_for_is_refused_with_where_to_ask_it() -> None:
    both = "/v1/chat/completions or /v1/embeddings"
    purposes: dict[Purpose, str] = {"generate": both, "rerank": "/v1/rerank"}
    for purpose, path in purposes.items():
        refusal = other_purpose("m", purpose)
        assert (refusal.status, refusal.code) == (400, "unsupported_model")
        assert refusal.field == "model" and refusal.message.endswith(f"ask it at {path}.")


def test_a_status_without_more_says_nothing_of_a_worker() -> None:
    status = Status("loading")
    assert not status.ready and Status("ready").ready
    assert (status.seconds, status.retry_after, status.context) == (0.0, 1, None)
