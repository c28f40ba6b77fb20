"""Turns about tools, moved, named and written as text; nothing of them is lost."""

from dataclasses import replace

from bessemer.translate.chat import Message, Tool, ToolCall
from bessemer.translate.parsers.tool_shape import HERMES
from bessemer.translate.parts import Text, said
from bessemer.translate.tool_turns import (
    apart,
    failures,
    function,
    named_results,
    short_id,
    silent_calls,
    thought_calls,
    told,
    with_short_ids,
    written_calls,
    written_results,
)
from tests.translate.called import TOOLS, read

HI = Message("user", said("Hi"))
F, G = ToolCall("call_1", "clock", '{"a": 1}'), ToolCall("call_2", "clock", "{}")
BOTH = Message("assistant", said("I look."), "Hm.", calls=(F, G))
ONE = Message("tool", said("4"), result_of="call_1")
TWO = Message("tool", said("5"), result_of="call_2")


def test_tools_are_told_of_in_the_system_turn() -> None:
    first, *rest = told((HI,), TOOLS, HERMES)
    assert first.role == "system" and rest == [HI]
    assert '"name":"get_weather"' in first.text and "Say what the weather is." in first.text
    assert '<tool_call>\n{"name": "' in first.text
    brief = Message("system", said("Be brief."))
    assert told((brief, HI), TOOLS, HERMES)[0].text == f"Be brief.\n\n{first.text}"
    assert told((Message("system"), HI), TOOLS, HERMES)[0].text == first.text


def test_calls_as_text_are_read_as_calls() -> None:
    (turn,) = written_calls((BOTH,), HERMES)
    assert not turn.calls and turn.reasoning == "Hm."
    assert read("hermes", turn.text) == ("I look.", ("clock", '{"a": 1}'), ("clock", "{}"))
    silent = Message("assistant", calls=(F,))
    assert written_calls((silent, BOTH), HERMES, beside=True) == (silent, turn)


def test_results_as_text_are_one_turn_in_a_row() -> None:
    turns = written_results((HI, BOTH, ONE, TWO, HI))
    assert [turn.role for turn in turns] == ["user", "assistant", "user", "user"]
    between = "<tool_response>\n4\n</tool_response>\n<tool_response>\n5\n</tool_response>"
    assert turns[2].text == between


def test_failures_say_so_once() -> None:
    parts = Message("tool", (Text("no"), Text("way")), failed=True)
    assert failures((parts,))[0].content == (Text("Error: no"), Text("way"))
    assert failures((Message("tool", failed=True),))[0].text == "Error:"
    said_already = Message("tool", said("ERROR 5"), failed=True)
    assert failures((said_already, ONE)) == (said_already, ONE)


def test_results_have_the_names_of_their_calls() -> None:
    other = Message("tool", said("6"), name="own", result_of="call_1")
    unknown = Message("tool", said("7"), result_of="call_9")
    turns = named_results((BOTH, ONE, other, unknown))
    assert [turn.name for turn in turns] == [None, "clock", "own", None]


def test_short_ids_are_the_same_for_the_same_id() -> None:
    (called, result) = with_short_ids((BOTH, ONE))
    ids = [call.id for call in called.calls]
    assert result.result_of == ids[0] != ids[1]
    assert all(len(each) == 9 and each.isalnum() for each in ids)
    assert short_id("abcDEF123") == "abcDEF123" and len(short_id("")) == 9
    assert with_short_ids((HI,)) == (HI,)


def test_calls_apart_have_their_results_after_them() -> None:
    first, one, second, two, hi = apart((BOTH, TWO, ONE, HI))
    assert (first.text, first.reasoning, first.calls) == ("I look.", "Hm.", (F,))
    assert (second.text, second.calls) == ("", (G,))
    assert (one, two, hi) == (ONE, TWO, HI)
    stray = Message("tool", said("?"), result_of="other")
    assert apart((BOTH, stray))[-1] == stray
    alone = Message("assistant", calls=(F,))
    assert apart((alone, ONE)) == (alone, ONE)


def test_a_whole_function_has_all_fields() -> None:
    assert function(Tool("f")) == {"name": "f"}
    empty = {"type": "object", "properties": {}}
    assert function(Tool("f"), whole=True) == {"name": "f", "description": "", "parameters": empty}
    full = Tool("f", "Does.", {"type": "object"})
    assert function(full) == function(full, whole=True)


def test_texts_beside_calls_end_thoughts_or_are_left_out() -> None:
    (turn,) = thought_calls((BOTH,))
    assert (turn.reasoning, turn.content, turn.calls) == ("Hm.\n\nI look.", (), (F, G))
    thoughtless = replace(BOTH, reasoning=None)
    assert thought_calls((thoughtless, HI)) == (thoughtless, HI)
    assert silent_calls((BOTH, HI)) == (replace(BOTH, content=()), HI)
