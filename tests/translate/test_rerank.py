"""Rerank and score: documents of two spellings, the best first, what is refused."""

import json
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Identity
from bessemer.translate.rerank import (
    Ranking,
    Scores,
    decode_request,
    decode_score,
    encode_response,
    encode_score,
)

WHO = Identity("rerank-1", 1_700_000_000, "tiny")
SCORES = Scores([0.25, 0.75, -3.0, 0.75], 40)
DOCUMENTS: list[Any] = ["a", {"text": "b", "title": "t"}, "", "d"]


def decoded(**fields: Any) -> Ranking:
    body = {"model": "m", "query": "q", "documents": DOCUMENTS} | fields
    return decode_request(json.dumps(body).encode())


def scored(**fields: Any) -> Ranking:
    body = {"model": "m", "text_1": "q", "text_2": ["a", "b"]} | fields
    return decode_score(json.dumps(body).encode())


def test_fields_and_their_defaults() -> None:
    assert decoded() == Ranking("m", "q", ("a", "b", "", "d"))
    body = decoded(
        top_n=2, return_documents=True, truncate=True, prompt_name="web", max_chunks_per_doc=3
    )
    assert body == Ranking("m", "q", ("a", "b", "", "d"), 2, True, "web", True)
    assert decoded(documents=["a"]).documents == scored(text_2=["a"]).documents == ("a",)
    assert decoded(top_n=None, return_documents=None, truncate_prompt_tokens=-1).truncate


def test_the_best_come_first_and_ties_as_given() -> None:
    answer = json.loads(encode_response(decoded(), SCORES, WHO))
    assert [(each["index"], each["relevance_score"]) for each in answer["results"]] == [
        (1, 0.75),
        (3, 0.75),
        (0, 0.25),
        (2, -3.0),
    ]
    assert "document" not in answer["results"][0]
    assert (answer["id"], answer["model"]) == ("rerank-1", "tiny")
    assert answer["usage"] == {"prompt_tokens": 40, "total_tokens": 40}


def test_some_of_them_with_their_documents() -> None:
    answer = json.loads(encode_response(decoded(top_n=2, return_documents=True), SCORES, WHO))
    shown = [(each["index"], each["document"]) for each in answer["results"]]
    assert shown == [(1, {"text": "b"}), (3, {"text": "d"})]
    more = json.loads(encode_response(decoded(top_n=9), SCORES, WHO))
    assert len(more["results"]) == 4


def test_scores_keep_their_order() -> None:
    assert scored() == Ranking("m", "q", ("a", "b"))
    assert scored(text_1=["q"], text_2="a", truncate=True) == Ranking(
        "m", "q", ("a",), truncate=True
    )
    answer = json.loads(encode_score(scored(), Scores([0.25, 0.75], 9), WHO))
    assert answer["data"] == [
        {"object": "score", "index": 0, "score": 0.25},
        {"object": "score", "index": 1, "score": 0.75},
    ]
    assert (answer["object"], answer["created"]) == ("list", 1_700_000_000)
    assert answer["usage"]["prompt_tokens"] == 9


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"query": ""}, "query", "empty"),
        ({"query": ["q"]}, "query", "string"),
        ({"documents": []}, "documents", "empty"),
        ({"documents": ["a"] * 10_001}, "documents", "at most 10000"),
        ({"documents": [{"title": "b"}]}, "documents[0].text", "required"),
        ({"documents": [5]}, "documents[0]", "string"),
        ({"top_n": 0}, "top_n", "at least 1"),
        ({"truncate_prompt_tokens": 9}, "truncate_prompt_tokens", "must be -1"),
    ],
)
def test_mistakes_name_the_field(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        decoded(**fields)
    assert (caught.value.status, caught.value.field) == (400, field)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"text_1": ["a", "b"]}, "text_1"),
        ({"text_1": ""}, "text_1"),
        ({"text_1": []}, "text_1"),
        ({"text_2": []}, "text_2"),
    ],
)
def test_mistakes_of_a_score(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        scored(**fields)
    assert (caught.value.status, caught.value.field) == (400, field)


def test_a_query_is_bounded_by_how_often_it_is_read() -> None:
    decoded(query="a" * 2**20, documents=["b"] * 32)
    scored(text_1="a" * 2**20, text_2=["b"] * 32)
    for decode, fields, field in (
        (decoded, {"query": "a" * 2**20, "documents": ["b"] * 33}, "query"),
        (decoded, {"query": "a" * 3356, "documents": [""] * 10_000}, "query"),
        (scored, {"text_1": ["a" * 2**20], "text_2": ["b"] * 33}, "text_1"),
    ):
        with pytest.raises(Refusal) as caught:
            decode(**fields)
        assert (caught.value.status, caught.value.field) == (400, field)
        assert "characters" in caught.value.message
