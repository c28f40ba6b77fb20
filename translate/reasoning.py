"""What a request asks of thoughts, and what it comes to for a family: switches, levels, budgets."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from msgspec import Struct

from .chat import Chat, Reasoning, Shown
from .decode import invalid, shown
from .parsers.parser import AnswerFormat
from .sampling import Positive

# A level of effort -> the share of an answer's tokens that thoughts may have, as OpenRouter has it
# (https://openrouter.ai/docs/use-cases/reasoning-tokens); with "max" they may have all.
EFFORTS: Mapping[str, float | None] = {
    "none": 0.0,
    "minimal": 0.1,
    "low": 0.2,
    "medium": 0.5,
    "high": 0.8,
    "xhigh": 0.95,
    "max": None,
}
# The same in the budgets that a template tells its model of, which was trained with these:
# ByteDance-Seed/Seed-OSS-36B-Instruct, README.md; beyond them it is told of none.
TOLD: Mapping[str, int] = {"minimal": 512, "low": 1024, "medium": 4096, "high": 16384}
# The last of each: what a model reports between calls of tools, which is its text here.
THINKING = {"enabled": True, "adaptive": True, "disabled": False, "between_tools": False}
DISPLAYS: Mapping[str, Shown] = {"summarized": "apart", "omitted": "sealed", "updates": "apart"}


class Thinking(Struct):
    """Anthropic's field, which DeepSeek's and GLM's chat completions have too."""

    type: str
    budget_tokens: Positive | None = None
    display: str | None = None


def thinking_of(thinking: Thinking | None) -> Reasoning:
    """Return what the field asks for."""
    if thinking is None:
        return Reasoning()
    enabled = THINKING[one_of(thinking.type, THINKING, "thinking.type")]
    display = one_of(thinking.display or "summarized", DISPLAYS, "thinking.display")
    return Reasoning(enabled, None, thinking.budget_tokens, DISPLAYS[display])


def one_of(value: str, allowed: Collection[str], field: str) -> str:
    """Return a field's value. Raises Refusal for one that is not allowed."""
    if value not in allowed:
        raise invalid(field, f"must be one of {', '.join(allowed)}, not {shown(value)}")
    return value


def settled(chat: Chat, format: AnswerFormat, names: Collection[str]) -> Chat:
    """Return a conversation as its template takes it, which reads these `names`.

    Whatever the template makes of a budget, decoding keeps to it; so does it to having no thoughts.
    A level that the template knows is left to the model.
    """
    asked = chat.reasoning
    if asked.enabled is None and asked.effort is None and asked.budget is None:
        return chat
    if asked.enabled is False or asked.budget == 0:
        asked = replace(asked, enabled=False, effort="none", budget=0)
    elif "thinking_budget" in names and asked.budget is None and asked.effort:
        asked = replace(asked, budget=TOLD.get(asked.effort), effort=None)
    told = asked.effort and "reasoning_effort" in names
    effort = None if told else asked.effort
    template = {**_switches(asked, format, names), **chat.template}
    return replace(chat, reasoning=replace(asked, effort=effort), template=template)


def _switches(asked: Reasoning, format: AnswerFormat, names: Collection[str]) -> Mapping[str, Any]:
    """Return what the template is told, of the names that it reads."""
    effort = asked.effort and format.efforts.get(asked.effort, asked.effort)
    values = {
        **dict.fromkeys(format.switches, asked.enabled),
        "reasoning_effort": effort,
        "thinking_budget": asked.budget,
    }
    return {name: value for name, value in values.items() if name in names and value is not None}


def is_limited(asked: Reasoning) -> bool:
    """Return whether thoughts may not have all the tokens that there are."""
    return most_tokens(asked, 1) is not None


def most_tokens(asked: Reasoning, max_tokens: int) -> int | None:
    """Return how many tokens thoughts may have, of an answer of so many; None: all of them."""
    if asked.budget is not None:
        return asked.budget
    share = EFFORTS[asked.effort] if asked.effort else None
    return None if share is None else int(share * max_tokens)


def is_off(asked: Reasoning) -> bool:
    """Return whether no thoughts are wanted, in whichever way that was said."""
    return asked.enabled is False or asked.budget == 0 or asked.effort == "none"


def effort_asked(asked: Reasoning, max_tokens: int | None) -> str | None:
    """Return the level of effort that is asked for, or that a budget comes to; None: neither is."""
    if asked.effort is not None or asked.budget is None:
        return asked.effort
    return effort_of(asked.budget, max_tokens)


def effort_of(budget: int, max_tokens: int | None) -> str:
    """Return the level of effort whose share of an answer is nearest to a budget, but none.

    Of an answer of any length, it is that of the budgets that templates are told.
    """
    if max_tokens is None:
        return next((level for level, told in TOLD.items() if budget <= told), "xhigh")
    shares = {level: share for level, share in EFFORTS.items() if share}
    return min(shares, key=lambda level: abs(shares[level] - budget / max(max_tokens, 1)))
