"""Ids of calls and results, as servers take them."""

import re

from bessemer.translate.chat import Message, ToolCall
from bessemer.translate.upstream.call_ids import CallIds


def call(id: str, name: str = "f") -> ToolCall:
    return ToolCall(id, name, "{}")


def result(id: str | None, name: str | None = None) -> Message:
    return Message("tool", name=name, result_of=id)


def test_an_id_stays_as_it_is_where_it_may() -> None:
    ids = CallIds()
    assert [ids.of_call(call(id)) for id in ("a", "call_b-1", "a")] == ["a", "call_b-1", "a"]
    assert ids.of_result(result("call_b-1")) == "call_b-1"


def test_others_are_changed_and_stay_apart() -> None:
    ids = CallIds()
    sent = ["functions.f:0", "functions_f_0", "functions/f/0", "x" * 100, "x" * 101, "é"]
    written = [ids.of_call(call(id)) for id in sent]
    assert len({*written}) == len(sent)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id) for id in written)
    assert [ids.of_result(result(id)) for id in sent] == written


def test_calls_without_any_are_known_by_their_names_and_their_order() -> None:
    ids = CallIds()
    first, second, third = (ids.of_call(call("", name)) for name in "fgf")
    assert len({first, second, third}) == 3
    assert ids.of_result(result("", "g")) == second
    assert [ids.of_result(result("", "f")) for _ in "12"] == [first, third]
    fourth = ids.of_call(call("", "h"))
    assert ids.of_result(result(None)) == fourth
    assert ids.of_result(result("")) not in (first, second, third, fourth)
