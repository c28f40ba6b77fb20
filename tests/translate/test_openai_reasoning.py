"""What a chat completion asks of thoughts, by each name that it may have."""

import json
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Reasoning
from bessemer.translate.openai_chat import decode_request

NOTHING = Reasoning()
LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def asked(**fields: Any) -> Reasoning:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return decode_request(json.dumps(body).encode()).reasoning


@pytest.mark.parametrize(
    ("fields", "oracle"),
    [
        ({}, NOTHING),
        ({"enable_thinking": False}, Reasoning(False)),
        ({"reasoning_effort": "high"}, Reasoning(True, "high")),
        ({"reasoning_effort": "none"}, Reasoning(False, "none")),
        ({"reasoning": {"effort": "none"}}, Reasoning(False, "none")),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, Reasoning(True, "high")),
        ({"reasoning": {"enabled": False}}, Reasoning(False)),
        ({"reasoning": {"max_tokens": 7}}, Reasoning(True, None, 7)),
        ({"reasoning": {"max_tokens": 0}}, Reasoning(None, None, 0)),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, Reasoning(True, "low")),
        ({"reasoning_effort": "none", "reasoning": {"enabled": True}}, Reasoning(True)),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, Reasoning(True, None, 9)),
        ({"thinking": {"type": "disabled"}}, Reasoning(False)),
        ({"enable_thinking": True, "thinking": {"type": "disabled"}}, Reasoning(True)),
        ({"thinking_budget": 5}, Reasoning(None, None, 5)),
        ({"thinking_token_budget": 5}, Reasoning(None, None, 5)),
        ({"reasoning_budget_tokens": 5}, Reasoning(None, None, 5)),
        ({"reasoning_budget": 0}, Reasoning(None, None, 0)),
        ({"reasoning_budget": -1, "reasoning": {"max_tokens": 7}}, Reasoning(True)),
        ({"thinking_budget": 5, "thinking_token_budget": 6}, Reasoning(None, None, 6)),
        ({"chat_template_kwargs": {"thinking_budget": 5}}, Reasoning(None, None, 5)),
        ({"chat_template_kwargs": {"thinking_budget": 0}}, Reasoning(None, None, 0)),
        ({"chat_template_kwargs": {"thinking_budget": -1}}, NOTHING),
        ({"chat_template_kwargs": {"thinking_budget": True}}, NOTHING),
        ({"chat_template_kwargs": {"thinking_budget": -9}}, NOTHING),
        ({"include_reasoning": False}, Reasoning(shown="hidden")),
        ({"include_reasoning": True, "separate_reasoning": True}, NOTHING),
        ({"reasoning": {"exclude": True}}, Reasoning(shown="hidden")),
        ({"separate_reasoning": False}, Reasoning(shown="inline")),
        ({"reasoning_format": "none"}, Reasoning(shown="inline")),
        ({"reasoning_format": "hidden"}, Reasoning(shown="hidden")),
        ({"reasoning_format": "auto", "separate_reasoning": False}, NOTHING),
        ({"reasoning_format": "deepseek"}, NOTHING),
        ({"thinking": {"type": "enabled", "display": "omitted"}}, Reasoning(True, shown="hidden")),
    ],
)
def test_what_is_asked(fields: dict[str, Any], oracle: Reasoning) -> None:
    assert asked(**fields) == oracle


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"reasoning_effort": "huge"}, "reasoning_effort", ", ".join(LEVELS)),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", ", ".join(LEVELS)),
        ({"reasoning_format": "x"}, "reasoning_format", "auto, deepseek, parsed, none, raw"),
        ({"thinking": {"type": "deep"}}, "thinking.type", "enabled, adaptive, disabled"),
        ({"thinking_budget": -2}, "thinking_budget", "at least -1"),
        ({"reasoning": {"max_tokens": -2}}, "reasoning.max_tokens", "at least -1"),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        asked(**fields)
    assert (caught.value.status, caught.value.field) == (400, field)
    assert words in caught.value.message


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_is_taken_by_both_names(level: str) -> None:
    assert asked(reasoning_effort=level) == asked(reasoning={"effort": level})
