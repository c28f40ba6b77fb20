"""Tables written as TOML are what tomllib reads."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.http.importers.toml_text import toml_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS = st.one_of(TEXTS, st.booleans(), st.integers(), st.floats(allow_nan=False))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_any_tables_are_read_as_they_were(tables: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(tables)) == tables


@pytest.mark.parametrize(
    "value", [10**400, 1e16, 5e-324, float("inf"), "\x00\x7f\x85\u2028", "'''"]
)
def test_values_at_the_edges(value: object) -> None:
    assert tomllib.loads(toml_text({"a": value, "b": [value], "c": [{"d": value}]})) == {
        "a": value, "b": [value], "c": [{"d": value}],
    }  # fmt: skip


def test_files_look_as_people_write_them() -> None:
    tables = {
        "server": {"port": 1, "cors_origin": ["a", "b"]},
        "models": [{"path": "p"}, {"path": "q"}],
        "providers": {"a": {"url": "http://a"}, "b.c": {"url": "http://b", "headers": {"x": "y"}}},
        "aliases": {"gpt-4": "a/b", "c:d": "e"},
    }
    assert toml_text(tables) == (
        '[server]\nport = 1\ncors_origin = ["a", "b"]\n\n'
        '[[models]]\npath = "p"\n\n[[models]]\npath = "q"\n\n'
        '[providers.a]\nurl = "http://a"\n\n[providers."b.c"]\nurl = "http://b"\n\n'
        '[providers."b.c".headers]\nx = "y"\n\n[aliases]\ngpt-4 = "a/b"\n"c:d" = "e"\n'
    )


def test_a_long_list_has_a_line_for_each() -> None:
    many = [f"org/model-number-{i}" for i in range(9)]
    text = toml_text({"models": many})
    assert text.count("\n") == 11 and tomllib.loads(text) == {"models": many}
