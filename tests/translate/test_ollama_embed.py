"""Tests of Ollama's embeddings, old and new."""

import json
from array import array
from typing import Any

import ollama
import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.ollama_embed import (
    decode_embed,
    decode_embeddings,
    encode_embed,
    encode_embeddings,
)
from bessemer.translate.openai_embeddings import Embedding, Vectors

ROW = array("f", [3.0, 4.0]).tobytes()


def embed(**fields: Any) -> Embedding:
    return decode_embed(json.dumps({"model": "m"} | fields).encode())


def test_requests() -> None:
    assert embed(input="a") == Embedding("m", ("a",), truncate=True, normalize=True)
    assert embed(input=["a", "b"], truncate=False, dimensions=2, keep_alive="5m") == Embedding(
        "m", ("a", "b"), dimensions=2, normalize=True
    )
    assert embed(input="").inputs == embed(input=[]).inputs == embed().inputs == ()
    assert embed(input="a", dimensions=0).dimensions is None
    old = decode_embeddings(b'{"model": "m", "prompt": "a"}')
    assert old == Embedding("m", ("a",), truncate=True)
    assert decode_embeddings(b'{"model": "m"}').inputs == ()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"input": "a", "dimensions": -1}, "dimensions"),
        ({"input": "", "keep_alive": 0}, "keep_alive"),
        ({"input": "a", "options": {"mirostat": 1}}, "options.mirostat"),
        ({"input": "a", "images": ["x"]}, "images"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        embed(**fields)
    assert caught.value.field and caught.value.field.replace("[...]", "[0]") == field


def test_answers_as_the_official_package_reads_them() -> None:
    body = json.loads(encode_embed(embed(input=["a", "b"]), Vectors([ROW, ROW], 7, 90), "m"))
    read = ollama.EmbedResponse.model_validate(body)
    assert [[round(x, 6) for x in row] for row in read.embeddings] == [[0.6, 0.8]] * 2
    assert (read.total_duration, read.prompt_eval_count, read.model) == (90, 7, "m")
    assert json.loads(encode_embed(embed(), Vectors((), 0), "m"))["embeddings"] == []
    old = json.loads(encode_embeddings(embed(input="a"), Vectors([ROW], 7), "m"))
    assert ollama.EmbeddingsResponse.model_validate(old).embedding == [3.0, 4.0]
    assert json.loads(encode_embeddings(embed(), Vectors((), 0), "m")) == {"embedding": []}
