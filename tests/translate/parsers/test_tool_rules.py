"""Rules of grammars of calls: by what llguidance lets through."""

import pytest
from msgspec import json

from bessemer.engine.text.lark import quoted
from bessemer.translate.parsers.tool_rules import Rules
from tests.engine.grammar.spelling import SPECIALS, accepts


def held(rules: Rules, start: str) -> str:
    return json.encode({"grammars": [{"lark_grammar": rules.grammar(start)}]}).decode()


def test_pairs_come_in_their_order_with_commas_between() -> None:
    rules = Rules({})
    pairs = [(quoted(f"{name}="), quoted("1"), name == "b") for name in "abc"]
    grammar = held(rules, rules.listed(pairs, quoted(", ")))
    for right in ("b=1", "a=1, b=1", "b=1, c=1", "a=1, b=1, c=1"):
        assert accepts(grammar, right)
    for wrong in ("", "a=1", "a=1, c=1", "b=1, a=1", ", b=1", "b=1, "):
        assert not accepts(grammar, wrong)
    rules = Rules({})
    assert accepts(held(rules, rules.listed([], quoted(","))), "")


@pytest.mark.parametrize("mark", ["</a/b>", "[TOOL_CALLS]", "<call>"])
def test_text_up_to_a_mark_has_it_once(mark: str) -> None:
    rules = Rules(SPECIALS)
    assert rules.is_special(mark) == (mark in SPECIALS)
    grammar = held(rules, f'{rules.until(mark)} "!"')
    assert accepts(grammar, f"any < / > text{mark}!") and accepts(grammar, f"{mark}!")
    assert not accepts(grammar, f"a{mark}b{mark}!")


def test_text_without_marks() -> None:
    rules = Rules(SPECIALS)
    grammar = held(rules, rules.text(["<a/b>", "x*", "[TOOL_CALLS]"]))
    assert accepts(grammar, "a/b <a x\n") and accepts(grammar, "")
    for wrong in ("so <a/b>", "x*", "say x* twice", "[TOOL_CALLS]"):
        assert not accepts(grammar, wrong)
    rules = Rules(SPECIALS)
    for marks in ([], ["[TOOL_CALLS]"]):  # special tokens, which no text has
        grammar = held(rules, rules.text(marks))
        assert accepts(grammar, "<a/b> x*") and not accepts(grammar, "[TOOL_CALLS]")
    rules = Rules({})
    begun = held(rules, f'{rules.until("<c>", rules.text(["<d>"]))} "!"')
    assert accepts(begun, "so <c>!") and not accepts(begun, "so <d> <c>!")


def test_schemas_and_where_they_came_from() -> None:
    rules = Rules({})
    grammar = held(rules, f"{rules.json({'const': 1}, 'a')} {rules.json({'not': {}}, 'b', False)}")
    assert rules.fields == ["a", "b"]
    assert accepts(grammar, '1"x"') and not accepts(grammar, '2"x"')
