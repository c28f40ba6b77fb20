"""A body's model: read and replaced, and nothing else, against Python's own JSON."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.http.gateway.model_name import model_named, renamed

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text() | st.just("model"), each),
    max_leaves=4,
)
KEYS = st.sampled_from(["model", "a", 'mo"del', "é", "", "}{"])
SPACE = st.sampled_from(["", " ", "\n\t", "\r\n "])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES, SPACE), max_size=5), st.booleans(), st.text())
def test_only_top_level_models_change(
    members: list[tuple[str, Any, str]], ascii: bool, model: str
) -> None:
    """Keys may be there more than once, in any spelling."""

    def body(*replaced: str) -> bytes:
        parts = []
        for key, value, space in members:
            spelled = json.dumps(value, ensure_ascii=ascii)
            if key in replaced:
                spelled = msgspec.json.encode(model).decode()
            parts.append(f"{space}{json.dumps(key, ensure_ascii=ascii)}{space}:{spelled}{space}")
        return f"{{{','.join(parts)}}}".encode()

    expected = body("model")
    if not any(key == "model" for key, _, _ in members):
        named = b'{"model":' + msgspec.json.encode(model)
        expected = named + (b"," if members else b"") + expected[1:]
    assert renamed(body(), model) == expected


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b'{"mod\\u0065l": "x"}', b'{"mod\\u0065l": "n"}'),
        (
            b'{"model":12,"model":1,"model":{"model":[3,"]}"]}}',
            b'{"model":"n","model":"n","model":"n"}',
        ),
        (b" { } ", b' {"model":"n" } '),
        (b'{"a":{"model":"x"}}', b'{"model":"n","a":{"model":"x"}}'),
        (b'{"model":"x\\"","b":"\\\\"}', b'{"model":"n","b":"\\\\"}'),
    ],
)
def test_models_in_odd_places(body: bytes, after: bytes) -> None:
    assert renamed(body, "n") == after


def test_a_model_is_read() -> None:
    assert model_named(b'{"a": [], "model": "x/y"}') == "x/y"
    assert model_named(b'{"mod\\u0065l": "x", "a": 1e999}') == "x"
    assert [model_named(body) for body in (b"{}", b'{"model": null}')] == ["", ""]
    assert [model_named(body) for body in (b"", b"[]", b'{"model": 1}', b'{"a": }')] == [None] * 4
    with pytest.raises(ValueError):
        renamed(b'{"model": "x"', "n")
