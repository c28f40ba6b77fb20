"""Requests and events: a refusal on its way, and which event is its request's last."""

import ast
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bessemer.engine.request import (
    Channels,
    Constraint,
    Embed,
    Embedded,
    Event,
    GenerationDefaults,
    Prefilled,
    Rank,
    Ranked,
    Refusal,
    Refused,
    Request,
    Sampling,
    Started,
    StepReport,
    Thought,
    ThoughtBudget,
    Token,
    over_context,
    overloaded,
    shutting_down,
)

ROOT = Path(__file__).parents[2]


NOTHING = {"logit_bias": {}, "repetition_penalty": 1, "presence_penalty": 0, "top_k": 0}
NOTHING |= {"frequency_penalty": 0, "temperature": 1, "top_p": 1, "min_p": 0, "seed": 0}
OPEN = dict.fromkeys(("max_tokens", "max_length")) | {"min_tokens": 0, "min_length": 0, "stop": []}
LISTS = {"stop": [], "stop_token_ids": [], "bad_words": [], "allowed_token_ids": None}
FLAGS = dict.fromkeys(("ignore_eos", "stop_in_reasoning", "goes_on", "progress", "embeds"), False)
MORE = dict.fromkeys(("logprobs", "prompt_logprobs", "constraint", "thought", "budget"))
ONE = {"id": 1, "tokens": [5], "max_tokens": 9}


@pytest.mark.parametrize(
    ("thing", "fields"),
    [
        (Sampling(), NOTHING),
        (GenerationDefaults(), OPEN | {"sampling": Sampling()}),
        (
            Request(id=1, tokens=[5], max_tokens=9),
            {**ONE, **LISTS, **FLAGS, **MORE, "min_tokens": 0, "sampling": Sampling()}
            | {"skip_special_tokens": True, "salt": "", "client": ""},
        ),
        (
            Constraint(grammar="regex", definition="a"),
            {"grammar": "regex", "definition": "a", "heads": False, "strict": True}
            | {"fields": (), "field": "response_format"},
        ),
        (ThoughtBudget(tokens=1, closing=[2], again=[3]), {"tokens": 1, "closing": [2]}
         | {"again": [3], "line": 0}),
        (Embed(id=1, inputs=["a"]), {"id": 1, "inputs": ["a"], "dimensions": None}
         | {"prompt": None, "truncate": False, "client": ""}),
        (Rank(id=1, query="q", documents=["a"]), {"id": 1, "query": "q", "documents": ["a"]}
         | {"prompt": None, "truncate": False, "client": ""}),
        (StepReport(), dict.fromkeys(StepReport.__struct_fields__, 0)),
    ],
)  # fmt: skip
def test_what_says_nothing_asks_for_nothing(thing: Any, fields: dict[str, Any]) -> None:
    assert structs.asdict(thing) == fields


def test_a_prompt_that_leaves_no_room_says_how_long_it_may_be() -> None:
    refusal = over_context(95, 8, 100)
    assert (refusal.status, refusal.code) == (400, "context_length_exceeded")
    assert refusal.sizes == (95, 92) and "95 tokens and at least 8 more" in refusal.message


@pytest.mark.parametrize(
    "refusal",
    [Refusal(400, "invalid_value", "No.", "stop"), Refusal(503, "busy", "Wait.", None, 7)],
)
def test_a_refusal_arrives_as_it_was(refusal: Refusal) -> None:
    refused = Refused.of(3, refusal)
    arrived = refused.refusal()
    assert refused.request == 3 and str(arrived) == refusal.message
    for name in ("status", "code", "message", "field", "retry_after"):
        assert getattr(arrived, name) == getattr(refusal, name) == getattr(refused, name)


@pytest.mark.parametrize(
    ("event", "over"),
    [
        (Prefilled(1, 5), False),
        (Started(1, 0), False),
        (Token(1, [5]), False),
        (Token(1, [], prompt=[]), False),
        (Token(1, [5], "stop"), True),
        (Token(1, [], "length"), True),
        (Embedded(1, [0], b"", 3, False), False),
        (Ranked(1, [0], [0.5], 3, True), True),
        (Refused(1, 400, "code", "No."), True),
    ],
)
def test_the_last_event_says_so(event: Event, over: bool) -> None:
    assert event.over is over


def test_an_engine_that_has_nothing_reports_nothing() -> None:
    assert set(structs.asdict(StepReport()).values()) == {0}


def test_marks_are_all_that_tell_an_answers_parts() -> None:
    assert Thought("<t>", "</t>", "text", "<a>", "</a>").marks == ("<t>", "</t>", "<a>", "</a>")
    # The control tokens of OpenAI's harmony format but those of whole texts.
    words = ("start", "end", "message", "channel", "constrain", "return", "call")
    assert set(Channels().marks) == {f"<|{word}|>" for word in words}


def test_too_many_requests_may_come_again_soon() -> None:
    assert (overloaded().status, overloaded().retry_after) == (503, 1)
    assert (shutting_down().status, shutting_down().retry_after) == (503, 5)


def test_every_503_of_the_source_says_when_to_come_again() -> None:
    seen = 0
    for path in (
        path for room in ("engine", "http", "translate") for path in (ROOT / room).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("Refusal", "Refused") or "503" not in map(
                ast.unparse, node.args
            ):
                continue
            seen += 1
            named = {word.arg: word.value for word in node.keywords}
            wait = node.args[4] if len(node.args) > 4 else named.get("retry_after")
            where = f"{path}:{node.lineno}"
            assert wait is not None and ast.unparse(wait) not in ("None", "0"), where
    assert seen >= 4


def test_what_is_left_open_changes_nothing() -> None:
    """The neutral value of each setting, by what it does; temperature and top_p are OpenAI's."""
    assert structs.asdict(Sampling()) == {
        **dict.fromkeys(("presence_penalty", "frequency_penalty", "min_p", "top_k", "seed"), 0),
        **dict.fromkeys(("temperature", "top_p", "repetition_penalty"), 1),
        "logit_bias": {},
    }
    lengths = structs.asdict(GenerationDefaults())
    assert lengths.pop("sampling") == Sampling() and not any(lengths.values())
    assert not any(structs.astuple(Token(0, []))) and not any(
        structs.astuple(Refused(0, 0, "", ""))
    )
