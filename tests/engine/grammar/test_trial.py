"""Grammars tried in another process: what ends it, that it begins anew, and what needs no trial."""

import json
import string
from typing import Any

import psutil
import pytest

from bessemer.engine.grammar.trial import LONG, Trial, may_be_dear
from bessemer.engine.request import Constraint, Refusal
from tests.engine.paper_model import compiler

TRIAL = "bessemer.engine.grammar.trial_process"


def joined(patterns: int) -> dict[str, Any]:
    """Return a schema whose text has so many patterns: each doubles what it takes to compile."""
    letters = string.ascii_lowercase * 3
    texts = [{"type": "string", "pattern": f".*{letters[i]}.{{{i}}}"} for i in range(patterns)]
    return {"allOf": texts}


def grammar(schema: Any) -> str:
    return json.dumps({"grammars": [{"json_schema": schema}]})


def test_what_takes_too_long_ends_the_process_and_the_next_has_another() -> None:
    trial = Trial(seconds=1)
    multiple = grammar({"type": "integer", "multipleOf": 5})
    assert trial.passes(multiple)
    assert not trial.passes(grammar(joined(60)))
    assert trial.passes(multiple)


def test_a_refusal_names_the_tool_and_the_next_schema_compiles() -> None:
    held = compiler()
    lark = f"start: a | b\na: %json {{}}\nb: %json {json.dumps(joined(60))}"
    fields = "tools[0].function.parameters", "tools[1].function.parameters"
    constraint = Constraint(grammar="lark", definition=lark, field="tools", fields=fields)
    with pytest.raises(Refusal, match=r"tools\[1\].* is beyond what can be followed") as caught:
        held.compile(constraint, None)
    assert (caught.value.status, caught.value.field) == (400, fields[1])
    held.compile(Constraint(grammar="json_schema", definition='{"multipleOf": 2}'), None)


@pytest.mark.parametrize(
    ("schema", "dear"),
    [
        (joined(6), False),
        (joined(7), True),
        ({"anyOf": [{"format": "uri", "minLength": i, "maxLength": 9} for i in range(3)]}, True),
        ({"properties": {"a": {"multipleOf": 5}}}, True),
        ({"patternProperties": {"^a": {}}}, True),
        ({"enum": ["x" * LONG]}, True),
        ({"properties": {f"p{i}": {"type": "integer", "minimum": i} for i in range(99)}}, False),
    ],
)
def test_only_what_may_be_dear_is_tried(schema: Any, dear: bool) -> None:
    assert may_be_dear(grammar(schema)) == dear


def test_operators_of_larks_are_counted() -> None:
    both = " & ".join("/.*a/" for _ in range(8))
    assert may_be_dear(json.dumps({"lark_grammar": f"start: A\nA: {both}"}))
    assert not may_be_dear(json.dumps({"lark_grammar": "start: /a/ | /b/"}))


def test_no_process_is_left_when_nobody_asks_any_more() -> None:
    before = psutil.Process().children()
    trial = Trial()
    assert trial.passes(grammar({"multipleOf": 5}))
    (process,) = [each for each in psutil.Process().children() if each not in before]
    assert TRIAL in process.cmdline()
    del trial
    assert not process.is_running()
