"""Embeddings: every kind of input, what is refused, and answers that the SDK reads."""

import base64
import json
import struct
from array import array
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from bessemer.engine.request import Refusal
from bessemer.translate.openai_embeddings import Embedding, Vectors, decode_request, encode_response

ROWS = [(0.5, -1.25, 3e-8), (1.0, 0.0, -0.0)]
VECTORS = Vectors([struct.pack("<3f", *row) for row in ROWS], 7)


def decoded(value: Any = "Once", **fields: Any) -> Embedding:
    return decode_request(json.dumps({"model": "m", "input": value, **fields}).encode())


def refused(value: Any = "Once", **fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decoded(value, **fields)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("Once", ("Once",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 0], ((1, 2, 0),)),
        (list(range(3000)), (tuple(range(3000)),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([" "] * 2048, (" ",) * 2048),
    ],
)
def test_inputs(value: Any, inputs: tuple[Any, ...]) -> None:
    assert decoded(value).inputs == inputs


def test_fields_and_their_defaults() -> None:
    assert decoded() == Embedding("m", ("Once",))
    value = decoded(
        dimensions=3, encoding_format="base64", user="u", prompt_name="query", truncate=True, new=1
    )
    assert value == Embedding("m", ("Once",), 3, True, "query", True)
    assert decoded(truncate_prompt_tokens=-1).truncate
    nothing = dict.fromkeys(
        ["dimensions", "encoding_format", "user", "truncate", "truncate_prompt_tokens"]
    )
    assert decoded(**nothing, prompt_name=None) == Embedding("m", ("Once",))
    assert not decoded(encoding_format="float").base64


@pytest.mark.parametrize(
    ("value", "fields", "field", "words"),
    [
        ("", {}, "input", "empty"),
        (["a", ""], {}, "input", "empty"),
        ([], {}, "input", "empty"),
        ([[]], {}, "input[0]", "empty"),
        (None, {}, "input", "string"),
        ([1, "a"], {}, "input", "mix"),
        ([-1], {}, "input[0]", "at least 0"),
        (["a"] * 2049, {}, "input", "at most 2048"),
        ([[1]] * 2049, {}, "input", "at most 2048"),
        ("a", {"dimensions": 0}, "dimensions", "at least 1"),
        ("a", {"encoding_format": "int8"}, "encoding_format", "int8"),
        ("a", {"truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "must be -1"),
        ("a", {"truncate": "END"}, "truncate", "true or false"),
    ],
)
def test_mistakes_name_the_field(value: Any, fields: Any, field: str, words: str) -> None:
    refusal = refused(value, **fields)
    assert refusal.field == field
    assert words in refusal.message


def test_vectors_are_made_unit_where_asked_for() -> None:
    vectors = Vectors([array("f", row).tobytes() for row in ([3.0, 4.0], [0.0, 0.0])], 7)
    for normalize, rows in ((True, [[0.6, 0.8], [0, 0]]), (False, [[3, 4], [0, 0]])):
        body = encode_response(decoded(["a", "b"], normalize=normalize), vectors, "m")
        answer = CreateEmbeddingResponse.model_validate_json(body)
        assert [each.embedding for each in answer.data] == [pytest.approx(row) for row in rows]


def test_an_answer_as_numbers_and_as_base64() -> None:
    body = encode_response(decoded(["a", "b"]), VECTORS, "m")
    answer = CreateEmbeddingResponse.model_validate_json(body)
    assert (answer.object, answer.model) == ("list", "m")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 7)
    assert [(each.object, each.index) for each in answer.data] == [
        ("embedding", 0),
        ("embedding", 1),
    ]
    assert [each.embedding for each in answer.data] == [
        pytest.approx(row, rel=1e-7) for row in ROWS
    ]
    shown = json.loads(encode_response(decoded(["a", "b"], encoding_format="base64"), VECTORS, "m"))
    raw = [base64.b64decode(each["embedding"]) for each in shown["data"]]
    assert raw == list(VECTORS.rows)
