"""Whatever bytes come, a request decoder gives a valid request or a Refusal of the 4xx kind."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.engine.request import Refusal
from bessemer.translate import anthropic_request, openai_chat, openai_completions
from bessemer.translate.chat import Chat, Completion, GenerateRequest, GenerationOptions, Message
from bessemer.translate.errors import anthropic_error, openai_error

Decode = Callable[[bytes], GenerateRequest]

SAMPLING = {
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 40,
    "stream": True,
    "max_tokens": 16,
}
OPENAI = {
    **SAMPLING,
    "model": "m",
    "n": 2,
    "min_tokens": 1,
    "min_p": 0.1,
    "seed": 7,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "logit_bias": {"5": -100},
    "stop": ["END", "\n"],
    "stop_token_ids": [2],
    "ignore_eos": False,
    "include_stop_str_in_output": True,
    "stream_options": {"include_usage": True},
    "user": "u",
    "tools": [],
    "tool_choice": "none",
    "response_format": {"type": "text"},
}
CHAT = {
    **OPENAI,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi 😀"}], "name": "ann"},
        {"role": "assistant", "content": None, "reasoning_content": "Hm."},
    ],
    "max_completion_tokens": 16,
    "logprobs": True,
    "top_logprobs": 2,
    "chat_template_kwargs": {"enable_thinking": False},
    "reasoning_effort": "low",
    "continue_final_message": True,
}
COMPLETION = {
    **OPENAI,
    "prompt": [[1, 2], [3]],
    "logprobs": 3,
    "echo": True,
    "best_of": 2,
    "suffix": "",
}
MESSAGES = {
    **SAMPLING,
    "model": "m",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}]},
    ],
    "stop_sequences": ["END"],
    "thinking": {"type": "enabled", "budget_tokens": 9},
    "metadata": {"user_id": "u"},
    "tools": [],
    "tool_choice": {"type": "auto"},
    "output_config": {"effort": "low"},
}
DECODERS: dict[str, tuple[Decode, dict[str, Any]]] = {
    "chat": (openai_chat.decode_request, CHAT),
    "completion": (openai_completions.decode_request, COMPLETION),
    "messages": (anthropic_request.decode_request, MESSAGES),
    "count": (anthropic_request.decode_count, MESSAGES),
}
every_decoder = pytest.mark.parametrize("name", DECODERS)

NUMBERS = (
    st.integers() | st.integers(-3, 130) | st.floats() | st.sampled_from([2**63, 2**64, 1e308])
)
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["user", "system", "tool", "text", "image", "auto", "none", "type", "role", "\x00", "\ud800"]
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def check(decode: Decode, body: bytes) -> GenerateRequest | None:
    try:
        request = decode(body)
    except Refusal as refusal:
        assert 400 <= refusal.status < 500
        assert refusal.message.endswith(".")
        assert len(refusal.message) < 400
        assert "`" not in refusal.message and "is not valid: " not in refusal.message
        openai_error(refusal)
        anthropic_error(refusal, "req_1")
        return None
    _check_options(request.options)
    if isinstance(request, Chat):
        _check_chat(request)
    else:
        _check_completion(request)
    return request


def _check_options(options: GenerationOptions) -> None:
    msgspec.msgpack.encode(options)  # what goes to the worker must fit its wire
    assert options.max_tokens is None or 0 <= options.min_tokens <= max(options.max_tokens, 0)
    assert 1 <= options.n <= 64
    assert options.seed is None or 0 <= options.seed < 2**64
    assert options.temperature is None or 0 <= options.temperature <= 100
    assert options.top_p is None or 0 < options.top_p <= 1
    assert options.top_k is None or options.top_k >= 0
    assert options.logprobs is None or 0 <= options.logprobs <= 20
    assert all(options.stop)


def _check_chat(chat: Chat) -> None:
    assert chat.messages
    assert chat.options.max_tokens != 0
    for message in chat.messages:
        assert isinstance(message, Message)
        assert message.role in ("system", "user", "assistant")
        message.text.encode()
    json.dumps(chat.template, allow_nan=False)


def _check_completion(completion: Completion) -> None:
    assert completion.prompts
    options = completion.options
    assert options.max_tokens is not None or options.usual_max_tokens == 16
    for prompt in completion.prompts:
        if isinstance(prompt, str):
            prompt.encode()
        else:
            assert all(type(t) is int and 0 <= t < 2**31 for t in prompt)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all fields and items, at any depth."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    inner = [path for key, item in items for path in places(item, (*at, key))]
    return [at, *inner]


def grafted(value: Any, path: tuple[Any, ...], graft: Any) -> Any:
    if not path:
        return graft
    copy = value.copy()
    copy[path[0]] = grafted(value[path[0]], path[1:], graft)
    return copy


@every_decoder
def test_the_unchanged_request_is_valid(name: str) -> None:
    decode, request = DECODERS[name]
    assert check(decode, json.dumps(request).encode())


@every_decoder
@given(body=st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))
def test_anything(name: str, body: bytes) -> None:
    check(DECODERS[name][0], body)


@every_decoder
@given(data=st.data())
def test_changed_bytes(name: str, data: st.DataObject) -> None:
    decode, request = DECODERS[name]
    body = json.dumps(request, ensure_ascii=data.draw(st.booleans())).encode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(start + 6, len(body))) | st.just(len(body)))
        new = data.draw(
            st.binary(max_size=4) | st.sampled_from(list(b'"\\[]{},:-0e.\0')).map(_byte)
        )
        body = body[:start] + new + body[end:]
    check(decode, body)


def _byte(number: int) -> bytes:
    return bytes([number])


@every_decoder
@given(data=st.data())
def test_grafted_trees(name: str, data: st.DataObject) -> None:
    decode, request = DECODERS[name]
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(request)[1:]))
        request = grafted(request, path, data.draw(JSON))
    check(decode, json.dumps(request).encode())


@every_decoder
@given(extra=st.dictionaries(st.text(max_size=8).map("x_".__add__), JSON, max_size=3))
def test_unknown_fields_change_nothing(name: str, extra: dict[str, Any]) -> None:
    decode, request = DECODERS[name]
    plain = json.dumps(request).encode()
    out = check(decode, json.dumps({**extra, **request}).encode())
    assert out is None or out == decode(plain)
