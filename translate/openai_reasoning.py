"""Reasoning in OpenAI's chat completions: all the names that it goes by."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from .chat import Reasoning, Shown
from .openai_tools import ToolRequest
from .reasoning import EFFORTS, Thinking, one_of, thinking_of
from .sampling import INT32

Budget = Annotated[int, Meta(ge=-1, le=INT32)]  # -1 is none
# vLLM's name, Qwen's, llama.cpp's two; the first that is there counts.
BUDGETS = (
    "thinking_token_budget",
    "thinking_budget",
    "reasoning_budget_tokens",
    "reasoning_budget",
)
# llama.cpp's names and Groq's.
FORMATS: Mapping[str, Shown] = {
    "auto": "apart",
    "deepseek": "apart",
    "parsed": "apart",
    "none": "inline",
    "raw": "inline",
    "hidden": "hidden",
}


class ReasoningObject(Struct):
    """OpenRouter's field, of which OpenAI's Responses have the level."""

    effort: str | None = None
    max_tokens: Budget | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class ReasoningRequest(ToolRequest, kw_only=True):
    """A request with OpenAI's level of effort, and with what other servers have."""

    reasoning_effort: str | None = None
    reasoning: ReasoningObject | None = None
    thinking: Thinking | None = None
    enable_thinking: bool | None = None
    thinking_token_budget: Budget | None = None
    thinking_budget: Budget | None = None
    reasoning_budget_tokens: Budget | None = None
    reasoning_budget: Budget | None = None
    include_reasoning: bool | None = None
    separate_reasoning: bool | None = None
    reasoning_format: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


def reasoning_of(request: ReasoningRequest) -> Reasoning:
    """Return what a request asks of thoughts; what is said more exactly counts for more."""
    inner, thinking = request.reasoning or ReasoningObject(), thinking_of(request.thinking)
    effort = level(request.reasoning_effort, "reasoning_effort")
    effort = effort or level(inner.effort, "reasoning.effort")
    wished = None if effort is None else effort != "none"
    if wished is None and inner.max_tokens:
        wished = True
    answers = request.enable_thinking, thinking.enabled, inner.enabled, wished
    enabled = next((each for each in answers if each is not None), None)
    told = (request.chat_template_kwargs or {}).get("thinking_budget")
    told = told if type(told) is int and 0 <= told <= INT32 else None
    named = (getattr(request, name) for name in BUDGETS)
    budgets = *named, inner.max_tokens, thinking.budget, told
    budget = next((each for each in budgets if each is not None), -1)
    effort = None if enabled and effort == "none" else effort
    return Reasoning(enabled, effort, None if budget < 0 else budget, _shown(request, thinking))


def level(effort: str | None, field: str) -> str | None:
    """Return a level of effort, if there is one. Raises Refusal for one that is unknown."""
    return one_of(effort, EFFORTS, field) if effort else None


def _shown(request: ReasoningRequest, thinking: Reasoning) -> Shown:
    excluded = request.reasoning is not None and request.reasoning.exclude
    if excluded or request.include_reasoning is False or thinking.shown != "apart":
        return "hidden"
    if request.reasoning_format is not None:
        return FORMATS[one_of(request.reasoning_format, FORMATS, "reasoning_format")]
    return "inline" if request.separate_reasoning is False else "apart"
