"""Typed reading of a JSON object: what each method takes, and what it says of anything else."""

from typing import Any

import pytest

from bessemer.architectures.config import ConfigError
from bessemer.architectures.fields import Fields
from bessemer.architectures.registry import configure

from .tiny import BASE

LLAMA = BASE | {"model_type": "llama"}


def fields_of(value: Any) -> Fields:
    return Fields({"a": value})


READ: list[tuple[Any, str, tuple[Any, ...], Any]] = [
    (3, "integer", (), 3),
    (None, "integer", (5,), 5),
    (0, "integer", (None, 0), 0),
    (2, "number", (), 2.0),
    (None, "number", (0.5,), 0.5),
    (0, "optional", (), None),
    (None, "optional", (), None),
    (1.5, "optional", (), 1.5),
    (False, "flag", (True,), False),
    (None, "flag", (True,), True),
    ("x", "choice", (("x", "y"), "y"), "x"),
    (None, "choice", (("x", "y"), "y"), "y"),
    (["x", "y", "x"], "kinds", (3, ("x", "y")), ["x", "y", "x"]),
    ([1, 2.5], "numbers", (2,), (1.0, 2.5)),
    ([3, 1, 3], "indices", (), {1, 3}),
    (None, "indices", (), frozenset()),
    (None, "get", (), None),
]


@pytest.mark.parametrize(("value", "method", "arguments", "result"), READ)
def test_what_is_read(value: Any, method: str, arguments: tuple[Any, ...], result: Any) -> None:
    fields = fields_of(value)
    assert getattr(fields, method)("a", *arguments) == result
    fields.leave()  # it counts as understood


REFUSED: list[tuple[Any, str, tuple[Any, ...], str]] = [
    (None, "integer", (), "a is missing, expected a whole number from 1 to 2147483647"),
    (True, "integer", (), "a is True, expected a whole number from 1 to 2147483647"),
    (1.0, "integer", (), "a is 1.0, expected a whole number from 1 to 2147483647"),
    (0, "integer", (), "a is 0, expected a whole number from 1 to 2147483647"),
    (9, "integer", (1, 2, 8), "a is 9, expected a whole number from 2 to 8"),
    (0.0, "number", (), "a is 0.0, expected a positive number"),
    (float("inf"), "number", (), "a is inf, expected a positive number"),
    (float("nan"), "number", (), "a is nan, expected a positive number"),
    (True, "number", (), "a is True, expected a positive number"),
    ("1", "optional", (), "a is '1', expected a positive number"),
    (1, "flag", (True,), "a is 1, expected true or false"),
    ("z", "choice", (("x", "y"), "y"), "a is 'z', expected one of x, y"),
    (["x"], "kinds", (2, ("x", "y")), "a is ['x'], expected 2 of x or y"),
    ([{}, "x"], "kinds", (2, ("x", "y")), "a is [{}, 'x'], expected 2 of x or y"),
    ([1.0], "numbers", (2,), "a is [1.0], expected 2 positive numbers"),
    ([1.0, -1.0], "numbers", (2,), "a.1 is -1.0, expected a positive number"),
    ([True], "indices", (), "a is [True], expected a list of whole numbers"),
    (2, "expect", (1,), "a is 2, expected 1"),
    (True, "expect", (False,), "a is True, expected false"),
    ([], "table", (), "a is [], expected an object"),
]


@pytest.mark.parametrize(("value", "method", "arguments", "message"), REFUSED)
def test_what_is_refused(value: Any, method: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        getattr(fields_of(value), method)("a", *arguments)
    assert str(caught.value) == f"config.json: {message}"


def test_a_table_is_named_and_read_once() -> None:
    fields = fields_of({"b": {"c": "wrong"}})
    inner = fields.table("a").table("b")
    assert inner is fields.table("a").table("b")
    with pytest.raises(ConfigError, match=r"^config\.json: a\.b\.c is 'wrong'"):
        inner.integer("c")
    assert fields_of(None).table("a").raw == {}


def test_absent_fields_are_assumed_and_null_ones_are_not() -> None:
    fields = Fields({"null": None, "set": 1})
    fields.assume(null=2, set=2, absent=2)
    fields.assume(absent=3, other=3)
    values = [fields.get(name) for name in ("null", "set", "absent", "other")]
    assert values == [None, 1, 2, 3]
    assert "null" not in fields and "absent" in fields


def test_what_nobody_read_is_refused() -> None:
    for value in (1, "x", [0], {"b": 0}, 0.5):
        with pytest.raises(ConfigError, match="expected nothing of that name"):
            fields_of(value).leave()
        ignored = fields_of(value)
        ignored.ignore("a")
        ignored.leave()
    inner = fields_of({"b": 1})
    inner.table("a")
    with pytest.raises(ConfigError, match=r"a\.b is 1"):
        inner.leave()


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_what_is_off_need_not_be_read(value: Any) -> None:
    fields_of(value).leave()


def test_long_values_are_cut_short() -> None:
    with pytest.raises(ConfigError) as caught:
        configure(LLAMA | {"hidden_act": "x" * 10_000})
    assert len(str(caught.value)) < 200


def test_what_changes_nothing_need_not_be_read() -> None:
    fields = Fields({"a": {"finetuned": True, "attn_factor": 1.0}, "logits_scaling": 1})
    fields.table("a")
    fields.leave()
    fields = Fields({"a": {"finetuned": True, "attn_factor": 1.5}})
    fields.table("a")
    with pytest.raises(ConfigError, match=r"a\.attn_factor is 1\.5, expected nothing"):
        fields.leave()


def test_a_field_that_its_own_switch_has_off() -> None:
    Fields({"sliding_window": 4096, "use_sliding_window": False}).leave()
    for switch in ({}, {"use_sliding_window": None}, {"use_window": False}):
        with pytest.raises(ConfigError, match="sliding_window is 4096"):
            Fields({"sliding_window": 4096} | switch).leave()
