"""Tests of what a flawed body is told, and that hostile bodies cost little."""

import json
import re
import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from bessemer.engine.request import Refusal
from bessemer.translate.decode import (
    MAX_COMMAS,
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_VALUES,
    PIECE,
    bound_values,
    decode,
    outside_strings,
    shown,
    weigh,
)


class Inner(Struct):
    role: str
    content: str | list[str] | None = None


class Body(Struct):
    model: str
    count: Annotated[int, Meta(ge=1, le=9)] | None = None
    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    flag: bool | None = None
    inner: Annotated[list[Inner], Meta(min_length=1)] | None = None
    few: Annotated[list[int], Meta(max_length=2)] | None = None
    name: Annotated[str, Meta(max_length=2)] | None = None
    bias: dict[int, float] | None = None
    anything: Any = None


DECODER = msgspec.json.Decoder(Body)


def refusal(body: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode(body, DECODER)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("fields", "code", "field", "message"),
    [
        ('"count": "3"', "invalid_type", "count", "count must be an integer, not a string."),
        ('"count": 2.5', "invalid_type", "count", "count must be an integer, not a number."),
        ('"count": true', "invalid_type", "count", "count must be an integer, not true or false."),
        ('"count": 0', "invalid_value", "count", "count must be at least 1."),
        ('"count": 10', "invalid_value", "count", "count must be at most 9."),
        ('"count": 1' + "0" * 40, "invalid_value", "count", "count must be at most 9."),
        ('"count": 1' + "0" * 5000, "invalid_value", "count", "count is a number out of range."),
        ('"share": 0', "invalid_value", "share", "share must be greater than 0."),
        ('"share": 1e999', "invalid_value", "share", "share is a number out of range."),
        ('"flag": []', "invalid_type", "flag", "flag must be true or false, not a list."),
        ('"inner": {}', "invalid_type", "inner", "inner must be a list, not an object."),
        ('"inner": []', "invalid_value", "inner", "inner must not be empty."),
        ('"few": [1,2,3]', "invalid_value", "few", "few must have at most 2 items."),
        ('"name": "abc"', "invalid_value", "name", "name must have at most 2 characters."),
        (
            '"inner": [{"role": "x", "content": 5}]',
            "invalid_type",
            "inner[0].content",
            "inner[0].content must be a string or a list, not an integer.",
        ),
        (
            '"inner": [{}]',
            "missing_required_parameter",
            "inner[0].role",
            "inner[0].role is required.",
        ),
        (
            '"bias": {"x": 1}',
            "invalid_type",
            "bias",
            "A key of bias must be an integer, not a string.",
        ),
        (
            '"anything": [1e999]',
            "invalid_value",
            "anything[0]",
            "anything[0] is a number out of range.",
        ),
    ],
)
def test_a_wrong_field_is_named(fields: str, code: str, field: str, message: str) -> None:
    error = refusal(f'{{"model": "m", {fields}}}'.encode())
    assert (error.code, error.field, error.message) == (code, field, message)


def test_the_body_itself() -> None:
    assert refusal(b"[]").message == "The request's body must be an object, not a list."
    assert refusal(b"{}").message == "model is required."
    assert refusal(b"{}").field == "model"


def test_the_bound_on_msgspec_is_that_of_the_sentences_that_were_read() -> None:
    """A newer msgspec is let in once this file and test_fuzz.py pass with it."""
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    assert "msgspec>=0.19,<0.24" in project["project"]["dependencies"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no body"),
        (b"  \n", "no body"),
        (b'{"model":', "ends too early"),
        (b'{"model": "m"', "ends too early"),
        (b'{"model": "m",}', "trailing comma"),
        (b"{'model': 'm'}", "not JSON"),
        (b'{"model": "m"} x', "trailing characters"),
        (b'{"model": NaN}', "not JSON"),
        (b'{"model": "m", "share": Infinity}', "not JSON"),
        (b'{"model": "\xff"}', "not UTF-8 at byte 11"),
        (b'{"model": "m", "unknown": "\xc3("}', "not UTF-8 at byte 27"),
        (b'{"model": "\xed\xa0\x80"}', "not UTF-8"),
        (rb'{"model": "\ud800"}', "surrogate"),
        (rb'{"model": "\ud800 and so on"}', "surrogate"),
        (rb'{"model": "\ud800\u0041"}', "surrogate"),
        (rb'{"model": "\udc00"}', "surrogate"),
        (rb'{"model": "m", "anything": {"\uD800": "and so on"}}', "surrogate"),
        (b'{"model": "a\0b"}', "not JSON"),  # control characters have to be escaped
        (b'{"model": "ab"}\0', "not JSON"),
    ],
)
def test_what_is_not_json(body: bytes, says: str) -> None:
    error = refusal(body)
    assert error.code == "invalid_json"
    assert says in error.message


def test_an_escaped_nul_is_a_character_like_others() -> None:
    assert decode(rb'{"model": "a\u0000\\\u0000"}', DECODER).model == "a\0\\\0"
    assert decode(rb'{"model": "\\u0000"}', DECODER).model == r"\u0000"


def test_a_whole_pair_is_no_lone_surrogate() -> None:
    assert decode(rb'{"model": "\ud83d\ude00"}', DECODER).model == "😀"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_is_limited(opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]

    def nested(levels: int) -> bytes:
        inner = opening * (levels - 1) + "1" + closing * (levels - 1)
        return f'{{"model": "m", "anything": {inner}}}'.encode()

    assert decode(nested(MAX_DEPTH), DECODER).model == "m"
    assert "64 levels" in refusal(nested(MAX_DEPTH + 1)).message
    assert "64 levels" in refusal(nested(100_000)).message


def test_unknown_fields_are_measured_too() -> None:
    body = b'{"model": "m", "unknown": ' + b"[" * 500 + b"]" * 500 + b"}"
    assert "64 levels" in refusal(body).message


def test_brackets_in_strings_do_not_count() -> None:
    text = '[[{"' * 100 + "\\"
    body = json.dumps({"model": text, "anything": [[]] * 80}).encode()
    assert decode(body, DECODER).model == text


JSON = st.recursive(
    st.none() | st.booleans() | st.text(st.sampled_from('"\\[]{}a')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=50,
)


def levels(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return (
        1 + max(map(levels, inner), default=0) if isinstance(inner, list | type({}.values())) else 0
    )


@given(JSON)
def test_depth_is_exact(value: object) -> None:
    shells = MAX_DEPTH - levels(value)
    body = json.dumps(value).encode()
    weigh(b"[" * shells + body + b"]" * shells)
    with pytest.raises(Refusal, match="64 levels"):
        weigh(b"[" * (shells + 1) + body + b"]" * (shells + 1))


@given(JSON, st.integers(1, 9))
def test_strings_are_left_out_wherever_a_piece_ends(value: object, size: int) -> None:
    body = json.dumps(value).encode()
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", body)
    assert b"".join(outside_strings(body, size)) == outside


@pytest.mark.parametrize("value", ["1", '"a"', "[]", "[1]", "{}", '{"a":1}', "[[],[1]]"])
@pytest.mark.parametrize("field", ["few", "anything", "unknown"])
def test_too_many_values_are_refused_before_they_are_decoded(value: str, field: str) -> None:
    body = f'{{"model":"m","{field}":[{",".join([value] * 2_000_000)}]}}'.encode()
    with pytest.raises(Refusal, match="too many values") as caught:
        decode(body, DECODER)
    assert caught.value.status == 413


def test_as_many_values_as_may_be_pass() -> None:
    weigh(b"[" + b"1," * MAX_COMMAS + b"1]")
    weigh(b"[" + b"[]" * (MAX_CONTAINERS - 1) + b"]")
    for body in (b"1," * (MAX_COMMAS + 1), b"[]" * (MAX_CONTAINERS + 1)):
        with pytest.raises(Refusal, match="too many values"):
            weigh(body)


@pytest.mark.parametrize("before", range(-13, 2))
def test_pairs_across_two_pieces(before: int) -> None:
    text = b"x" * (PIECE + before - len(b'{"model": "'))
    for half in (rb"\ud83d.", rb"\ude00"):
        assert "surrogate" in refusal(b'{"model": "' + text + half + b'"}').message
    broken = b'{"model": "' + text + rb"\ud83d\ude00" + b'" \\udxyz'  # the pair is whole
    assert "surrogate" not in refusal(broken).message


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000_000,
        b"[]" * 5_000_000,
        (b"[" * 64 + b"]" * 64) * 78_000,
        b'"' * 10_000_000,
        b'["",' * 2_500_000,
        b'"' + b'\\"' * 5_000_000,
        b'"' + b"\\" * 10_000_000,
        b'{"model": "' + b"\\\\" * 5_000_000 + b'\\ud800"}',
        b'{"model": "' + b"\\u0000" * 1_600_000,
        b'{"a":' * 2_000_000,
    ],
    ids=range(10),
)
def test_ten_hostile_megabytes_are_refused_soon(body: bytes) -> None:
    start = time.process_time()
    with pytest.raises(Refusal) as caught:
        decode(body, DECODER)
    assert caught.value.status in (400, 413)
    # Takes 0.1 to 0.3 s; a quadratic scan would take hours.
    assert time.process_time() - start < 5


def test_ten_megabytes_of_text_pass() -> None:
    body = b'{"model": "' + b"a[" * 5_000_000 + b'"}'
    assert len(decode(body, DECODER).model) == 10_000_000


def test_a_long_value_that_no_choice_has_is_cut() -> None:
    from bessemer.translate.openai_embeddings import decode_request

    body = b'{"model": "m", "input": "a", "encoding_format": "%s"}' % (b"x\\n" * 5_000)
    with pytest.raises(Refusal, match=r"^encoding_format cannot be 'x") as caught:
        decode_request(body)
    assert len(caught.value.message) < 120


def test_a_callers_text_is_shown_up_to_40_characters() -> None:
    assert shown("a" * 40) == repr("a" * 40)
    assert shown("a" * 41) == repr("a" * 40 + "...")


def test_values_are_counted_however_nested() -> None:
    half = MAX_VALUES // 2 - 2  # beside two inner values in a list and in an object
    for most in ([0] * MAX_VALUES, {"a": [1] * half, "b": {str(i): None for i in range(half + 2)}}):
        bound_values("x", most)
        more = [*most, 0] if isinstance(most, list) else most | {"c": 0}
        with pytest.raises(Refusal, match=f"x must hold at most {MAX_VALUES} values") as caught:
            bound_values("x", more)
        assert caught.value.field == "x"
    bound_values("x", "a" * (MAX_VALUES + 1))
