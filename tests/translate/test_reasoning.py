"""What is asked of thoughts, as templates and decoding are told of it."""

import re
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, Reasoning
from bessemer.translate.parsers import channels, think
from bessemer.translate.parsers.formats import choose
from bessemer.translate.parsers.parser import AnswerFormat
from bessemer.translate.reasoning import (
    EFFORTS,
    TOLD,
    Thinking,
    effort_of,
    is_limited,
    most_tokens,
    settled,
    thinking_of,
)
from tests.translate.families import FAMILIES, TEMPLATES

QWEN, DEEPSEEK, OSS = {"enable_thinking"}, {"thinking", "enable_thinking"}, {"reasoning_effort"}
SEED, NONE = {"thinking_budget"}, set[str]()
COHERE = next(format for format in think.FAMILIES if format.name == "cohere")


def told(
    asked: Reasoning, names: set[str], format: AnswerFormat = think.FORMAT, **kwargs: Any
) -> tuple[dict[str, Any], int | None]:
    """Return what the template is told, and how many of 1000 tokens thoughts may have."""
    chat = settled(Chat("m", (), template=kwargs, reasoning=asked), format, names)
    limit = most_tokens(chat.reasoning, 1000)
    assert is_limited(chat.reasoning) is (limit is not None)
    return chat.template, limit


def test_nothing_asked_is_nothing_told() -> None:
    chat = Chat("m", (), template={"x": 1}, reasoning=Reasoning(shown="hidden"))
    assert settled(chat, think.FORMAT, QWEN) is chat


@pytest.mark.parametrize(
    "asked", [Reasoning(False), Reasoning(budget=0), Reasoning(True, "low", 0)]
)
def test_no_thoughts_are_a_switch_and_a_budget_of_none(asked: Reasoning) -> None:
    assert told(asked, QWEN) == ({"enable_thinking": False}, 0)
    assert told(asked, DEEPSEEK) == ({"enable_thinking": False, "thinking": False}, 0)
    assert told(asked, SEED) == ({"thinking_budget": 0}, 0)
    assert told(asked, OSS, channels.FORMAT) == ({"reasoning_effort": "low"}, 0)
    assert told(asked, OSS) == ({"reasoning_effort": "none"}, 0)
    assert told(asked, {"reasoning"}, COHERE) == ({"reasoning": False}, 0)
    both = {"reasoning", "enable_thinking"}  # as llama.cpp's template of the family
    assert told(asked, both, COHERE) == (dict.fromkeys(both, False), 0)
    assert told(asked, {"reasoning"}) == ({}, 0), "a message's, in other templates"
    assert told(asked, NONE) == ({}, 0)


@pytest.mark.parametrize(
    ("effort", "share"),
    [("minimal", 100), ("low", 200), ("medium", 500), ("high", 800), ("xhigh", 950), ("max", None)],
)
def test_a_level_is_a_share_of_the_answer_where_the_template_knows_none(
    effort: str, share: int | None
) -> None:
    asked = Reasoning(True, effort)
    assert told(asked, QWEN) == ({"enable_thinking": True}, share)
    assert told(asked, NONE) == ({}, share)
    assert told(Reasoning(None, effort), QWEN) == ({}, share)


@pytest.mark.parametrize("effort", [each for each in EFFORTS if each != "none"])
def test_a_level_that_the_template_knows_is_left_to_the_model(effort: str) -> None:
    known = {"minimal": "low", "xhigh": "high", "max": "high"}.get(effort, effort)
    asked = Reasoning(True, effort)
    assert told(asked, OSS, channels.FORMAT) == ({"reasoning_effort": known}, None)
    assert told(asked, OSS) == ({"reasoning_effort": effort}, None)
    budget = TOLD.get(effort)
    fields = {} if budget is None else {"thinking_budget": budget}
    assert told(asked, SEED) == (fields, budget)


def test_levels_are_the_budgets_that_seed_oss_was_trained_with() -> None:
    budgets = [told(Reasoning(True, effort), SEED)[1] for effort in ("low", "medium", "high")]
    assert budgets == [1024, 4096, 16384]


def test_anthropics_field() -> None:
    assert thinking_of(None) == Reasoning() and thinking_of(Thinking("adaptive")) == Reasoning(True)
    assert thinking_of(Thinking("enabled", 7, "omitted")) == Reasoning(True, None, 7, "sealed")
    assert thinking_of(Thinking("disabled", None, "summarized")) == Reasoning(False)
    for wrong, field in (
        (Thinking("on"), "thinking.type"),
        (Thinking("enabled", 7, "x"), "display"),
    ):
        with pytest.raises(Refusal, match="must be one of") as caught:
            thinking_of(wrong)
        assert str(caught.value.field).endswith(field)


def test_a_budget_is_told_and_kept() -> None:
    assert told(Reasoning(True, "low", 70), SEED) == ({"thinking_budget": 70}, 70)
    assert told(Reasoning(True, "low", 70), QWEN) == ({"enable_thinking": True}, 70)
    assert told(Reasoning(None, None, 70), QWEN) == ({}, 70)


def test_what_a_client_tells_the_template_itself_counts() -> None:
    template, _ = told(Reasoning(True), QWEN, enable_thinking=False, x=1)
    assert template == {"enable_thinking": False, "x": 1}


README = Path(__file__).parents[2] / "http" / "README.md"


def kind(name: str) -> str:
    """Return what a template that was tried knows of thoughts."""
    source, family = (TEMPLATES / f"{name}.jinja").read_text(), FAMILIES[name]
    names = set(re.findall(r"\w+", source))
    known = next((each for each in ("reasoning_effort", "thinking_budget") if each in names), None)
    format = choose(source, family.special.split())
    marks = format.marks("", Chat("", ()))
    thinks = names & {"enable_thinking", "thinking"} or marks.marks[0] in source
    return known or ("thoughts" if thinks else "nothing")


def test_the_readme_has_the_table_of_levels() -> None:
    rows = [line for line in README.read_text().splitlines() if line.startswith("| ")]
    for knows in ("reasoning_effort", "thinking_budget", "thoughts"):
        beginning = f"| `{knows}`" if "_" in knows else f"| {knows}"
        (row,) = (row for row in rows if row.startswith(beginning) and "`" not in row[25:])
        tried = [name for name in sorted(FAMILIES) if kind(name) == knows]
        assert row.split("|")[-2].strip().split(", ") == tried
        if knows == "thoughts":
            for effort, share in EFFORTS.items():
                told = "all" if share is None else f"{share:.0%}".replace("%", " %")
                assert share == 0 or f"{effort} {told}" in row
        elif knows == "thinking_budget":
            assert all(f"{effort} {tokens}" in row for effort, tokens in TOLD.items())
        else:
            assert channels.FORMAT.efforts == {
                "none": "low",
                "minimal": "low",
                "xhigh": "high",
                "max": "high",
            }
            assert "minimal is low, xhigh and max are high" in row


@pytest.mark.parametrize(
    ("budget", "limit", "effort"),
    [
        (1, 10_000, "minimal"),
        (1400, 10_000, "minimal"),
        (1600, 10_000, "low"),
        (7000, 10_000, "high"),
        (20_000, 10_000, "xhigh"),
        (1, 0, "xhigh"),
        (512, None, "minimal"),
        (5000, None, "high"),
        (16_385, None, "xhigh"),
    ],
)
def test_the_effort_nearest_to_a_budget(budget: int, limit: int | None, effort: str) -> None:
    assert effort_of(budget, limit) == effort
