"""What is asked for, and the marks of an answer, as one grammar: by what it lets through."""

import json
import re
from collections.abc import Mapping

import pytest

from bessemer.engine.grammar.definition import RULES, DefinitionError, grammar_of
from bessemer.engine.request import (
    MAX_DEFINITION,
    AnswerMarks,
    Channels,
    Constraint,
    Grammar,
    Thought,
)
from tests.engine.grammar.spelling import SPECIALS, accepts

PAIR = '{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"string"}},'
PAIR += '"required":["b","a"],"additionalProperties":false}'


def constraint(grammar: Grammar, definition: str, strict: bool = True) -> Constraint:
    return Constraint(grammar=grammar, definition=definition, strict=strict)


def held(
    grammar: Grammar,
    definition: str,
    marks: AnswerMarks | None = None,
    strict: bool = True,
    specials: Mapping[str, int] = SPECIALS,
) -> str:
    return grammar_of(constraint(grammar, definition, strict), marks, specials, lambda _: True)


@pytest.mark.parametrize(
    ("grammar", "definition", "right", "wrong"),
    [
        ("json_schema", PAIR, '{"b": 1, "a": "x"}', '{"a": "x", "b": 1}'),
        ("json_schema", "true", '[1, {"x": null}]', "no"),
        ("json_object", "", '{"any": [1, 2.5e3, "é"]}', "[1]"),
        ("regex", "a+", "aaa", "aab"),
        ("regex", "^a|b$", "b", "ab"),
        ("regex", r"a/\$", "a/$", "a/"),
        ("choice", '["yes", "yes, \\"sir\\"", "/"]', 'yes, "sir"', "no"),
        ("lark", 'start: "a" x\nx: /[0-9]+/', "a12", "a"),
        ("gbnf", 'root ::= "a" x\nx ::= [0-9]+', "a12", "a"),
        ("gbnf", 'start: "a" /[0-9]+/', "a12", "a"),
    ],
)
def test_each_kind_lets_through_what_it_means(
    grammar: Grammar, definition: str, right: str, wrong: str
) -> None:
    text = held(grammar, definition)
    assert accepts(text, right) and not accepts(text, wrong)


def test_properties_come_in_the_schemas_order_whatever_their_names() -> None:
    names = ["zebra", "apple", "10", "2", "mango"]
    properties = {name: {"type": "integer"} for name in names}
    schema = json.dumps({"type": "object", "properties": properties, "required": names})
    assert accepts(held("json_schema", schema), json.dumps(dict.fromkeys(names, 1)))
    assert not accepts(held("json_schema", schema), json.dumps(dict.fromkeys(sorted(names), 1)))


@pytest.mark.parametrize(
    ("document", "fine"),
    [
        ('{\n    "b": 1,\n    "a": "x"\n}', True),
        ('{"b":1,"a":"x"}', True),
        ('{"b":' + 39 * " " + '1,"a":"x"}', True),
        ('{"b":' + 41 * " " + '1,"a":"x"}', False),
        ('{"b":\n\n1,"a":"x"}', False),
        (' {"b":1,"a":"x"}', False),
        ('{"b":1,"a":"x"} ', False),
    ],
)
def test_blanks_between_parts_are_bounded(document: str, fine: bool) -> None:
    assert accepts(held("json_schema", PAIR), document) == fine


THINK = "<think>", "</think>"
TRIALS = [
    (Thought(*THINK), "12", True),
    (Thought(*THINK), "<think>so: 5 < 6</think>\n\n12", True),
    (Thought(*THINK), "<think>so</think>12", True),
    (Thought(*THINK), "<think>so</think>x12", False),
    (Thought(*THINK), "<think>12", False),
    (Thought(*THINK), "well, 12", False),
    (Thought(*THINK, "thought"), "so it is</think>\n12", True),
    (Thought(*THINK, "thought"), "12", False),
    (Thought(*THINK, "text"), "12", True),
    (Thought(*THINK, "text"), "<think>so</think>12", False),
    (Thought(*THINK, "start", "<r>", "</r>"), "<think>so</think>\n<r>\n12", True),
    (Thought(*THINK, "start", "<r>", "</r>"), "<r>12", True),
    (Thought(*THINK, "start", "<r>", "</r>"), "12", True),
    (Thought("[THINK]", "[/THINK]"), "[THINK]any [text][/THINK]12", True),
    (Thought("[THINK]", "[/THINK]"), "[THINK]a[THINK]b[/THINK]12", False),
    (Thought("<|channel>thought", "<channel|>"), "<|channel>thought\nso<channel|>12", True),
    (Thought("<|channel>thought", "<channel|>"), "<|channel>12", False),
    (Channels(), "<|channel|>final<|message|>12", True),
    (Channels(), "<|channel|>final<|constrain|>json<|message|>12", True),
    (
        Channels(),
        "<|channel|>analysis<|message|>so 12<|end|><|start|>assistant<|channel|>final<|message|>12",
        True,
    ),
    (Channels(), "12", False),
    (Channels(), "<|channel|>analysis<|message|>12", False),
    (Channels("<|channel|>analysis<|message|>"), "so<|end|><|start|>assistant12", False),
    (
        Channels("<|channel|>analysis<|message|>"),
        "so<|end|><|start|>assistant<|channel|>final<|message|>12",
        True,
    ),
    (
        Channels("<|channel|>analysis"),
        "<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>12",
        True,
    ),
    (Channels("<|channel|>final<|message|>"), "12", True),
    (Channels("<|channel|>final"), "<|message|>12", True),
]


@pytest.mark.parametrize(("marks", "answer", "fine"), TRIALS)
def test_what_comes_before_the_text_is_free_and_well_formed(
    marks: AnswerMarks, answer: str, fine: bool
) -> None:
    assert accepts(held("regex", "[0-9]{2}", marks), answer) == fine


def test_a_tag_that_is_no_token_is_not_offered() -> None:
    """A model that was never taught to think has none; a phrase is made of words it has."""
    plain = constraint("regex", "[0-9]{2}")
    for opening, offered in (("<think>", False), ("Here is my thought process:", True)):
        marks = Thought(opening, "</think>")
        text = grammar_of(plain, marks, SPECIALS, lambda _: False)
        assert accepts(text, f"{opening}so</think>12") == offered and accepts(text, "12")


def test_of_a_schema_that_is_not_strict_what_can_be_kept_to_is() -> None:
    odd = {"not": {"const": 1}, "multipleOf": 65537, "minimum": 1e30, "maximum": 1e30}
    odd |= {"uniqueItems": True, "format": "odd", "oneOf": [{}, {"type": "integer"}]}
    schema = {"type": "object", "properties": {"a": {"type": "integer", **odd}}, "required": ["a"]}
    loose = held("json_schema", json.dumps(schema), None, False)
    assert accepts(loose, '{"a": 1}') and not accepts(loose, '{"a": "b"}')
    assert not accepts(loose, "{}")
    for grammar, text in (("json_schema", "{}"), ("lark", "start: %json {}")):
        text = text.replace("{}", '{"$ref": "#"}')
        for strict in (True, False):
            with pytest.raises(DefinitionError, match="endless"):
                held(grammar, text, None, strict)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grammar", "definition", "said"),
    [
        ("json_schema", "{", "is not JSON"),
        ("json_schema", "5", "must be a JSON schema"),
        ("json_schema", "false", "must be a JSON schema"),
        ("json_schema", '{"$ref":"#"}', "endless"),
        ("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000, "nested too deeply|is not JSON"),
        ("json_schema", '{"a":"' + "x" * MAX_DEFINITION + '"}', "characters"),
        ("choice", "{}", "no list"),
        ("gbnf", "root", "is no grammar"),
        ("gbnf", 'root ::= "\\', "is no grammar"),
        ("gbnf", "root ::= " + "(" * 5000, "nested too deeply"),
        ("gbnf", "\n".join(f"r{i} ::= r{i + 1}" for i in range(RULES + 1)), "rules"),
        ("gbnf", "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(RULES)), "rules"),
    ],
)
def test_what_is_no_grammar_is_said(grammar: Grammar, definition: str, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        held(grammar, definition)
    assert re.search(said, str(caught.value)) and len(str(caught.value)) < 400
