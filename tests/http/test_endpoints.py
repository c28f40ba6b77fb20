"""Tests of a new backend and a new dialect: a toy of each behind a whole server, over sockets."""

import json
from typing import Any

import anthropic
import openai

from bessemer.http.backends import Backends
from bessemer.http.endpoints import endpoints
from bessemer.translate.chat import Chat, Completion
from bessemer.translate.openai_embeddings import Embedding
from bessemer.translate.rerank import Ranking
from tests.http import toy
from tests.http.toy import CALL, ToyBackend
from tests.http.toy_server import post, serving

PUBLIC = {"/health", "/openapi.json", "/docs"}
HI: list[Any] = [{"role": "user", "content": "Hi"}]


def test_every_path_and_which_ask_for_no_key() -> None:
    routes = endpoints(Backends({}))
    posts = {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/responses",
        "/v1/responses/input_tokens",
        "/v1/responses/{id}/cancel",
        "/v1/embeddings",
        "/v1/rerank",
        "/v2/rerank",
        "/v1/score",
        "/v1/route",
        *("/tokenize", "/detokenize", "/apply-template"),
        *(f"/api/{name}" for name in ("chat", "generate", "embed", "embeddings", "show")),
    }
    gets = {"/v1/models", "/v1/models/{id}", *PUBLIC, "/v1/status", "/props", "/slots"}
    gets |= {"/api/tags", "/api/ps", "/api/version"}
    gets |= {"/v1/responses/{id}", "/v1/responses/{id}/input_items"}
    assert {path for method, path in routes if method == "POST"} == posts
    assert {path for method, path in routes if method == "GET"} == gets
    deletes = {"/v1/responses/{id}"}
    assert {path for method, path in routes if method == "DELETE"} == deletes
    assert len(routes) == len(posts) + len(gets) + len(deletes)
    assert {path for (_, path), route in routes.items() if route.public} == PUBLIC


def test_a_toy_backend_in_every_dialect() -> None:
    model = ToyBackend("toy")
    with serving(model) as port:
        url = f"http://127.0.0.1:{port}"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            reply = client.chat.completions.create(model="toy", messages=HI)
            assert reply.choices[0].message.content == "Hello there"
            chunks = list(client.chat.completions.create(model="toy", messages=HI, stream=True))
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello there"
            text = client.completions.create(model="toy", prompt="Hi").choices[0].text
            assert text == "Hm.Hello there"
            pieces = client.completions.create(model="toy", prompt="Hi", stream=True)
            assert "".join(c.choices[0].text for c in pieces) == "Hm.Hello there"
            response = client.responses.create(model="toy", input="Hi")
            assert response.output_text == "Hello there"
            vectors = client.embeddings.create(model="toy", input=["a", "b"]).data
            assert [each.embedding for each in vectors] == [[1.0], [1.0]]
            assert [model.id for model in client.models.list()] == ["toy"]
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as other:
            message = other.messages.create(model="toy", messages=HI, max_tokens=9)
            assert [block.type for block in message.content] == ["thinking", "text"]
            with other.messages.stream(model="toy", messages=HI, max_tokens=9) as stream:
                assert "".join(stream.text_stream) == "Hello there"
            counted = other.messages.count_tokens(model="toy", messages=HI)
            assert counted.input_tokens == 42
        ranked = {"model": "toy", "query": "q", "documents": ["x", "y"]}
        results = json.loads(post(port, "/v1/rerank", ranked)[2])["results"]
        assert [(r["index"], r["relevance_score"]) for r in results] == [(1, 1.0), (0, 0.0)]
    assert {type(each) for each in model.requests} == {Chat, Completion, Embedding, Ranking}
    assert {each.client for each in model.requests} == {"127.0.0.1"}
    assert model.closed == len(model.requests) - 2 == 7


def test_one_backend_behind_every_other_path() -> None:
    ranked = {"query": "q", "documents": ["x", "y"]}
    texts = {"text_1": "q", "text_2": ["x", "y"]}
    with serving(ToyBackend("toy")) as port:
        for path, body, said in (
            ("/v2/rerank", ranked, "results"),
            ("/v1/score", texts, "data"),
            ("/api/embed", {"input": ["a", "b"]}, "embeddings"),
            ("/api/embeddings", {"prompt": "a"}, "embedding"),
        ):
            status, _, raw = post(port, path, {"model": "toy", **body})
            assert (status, said in json.loads(raw)) == (200, True), path
        status, _, raw = post(port, "/api/embed", {"model": "none", "input": "a"})
        assert status == 404 and isinstance(json.loads(raw)["error"], str)  # as Ollama has it


def test_calls_reach_both_packages() -> None:
    with serving(ToyBackend("toy", CALL)) as port:
        url = f"http://127.0.0.1:{port}"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            choice = client.chat.completions.create(model="toy", messages=HI).choices[0]
            assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
            (call,) = choice.message.tool_calls
            assert call.type == "function"
            assert (call.id, call.function.name) == ("call_1", "add")
            assert call.function.arguments == '{"a":1}'
        with (
            anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as other,
            other.messages.stream(model="toy", messages=HI, max_tokens=9) as stream,
        ):
            (block,) = stream.get_final_message().content
            assert block.type == "tool_use"
            assert (block.id, block.name, block.input) == ("call_1", "add", {"a": 1})


def test_a_toy_dialect_is_one_file_and_one_row() -> None:
    with serving(ToyBackend("toy"), dialects={"/toy": toy.DIALECT}) as port:
        status, _, body = post(port, "/toy", {"model": "toy", "say": "Hi"})
        assert (status, json.loads(body)) == (200, {"by": "toy", "said": "Hello there"})
        status, headers, body = post(port, "/toy", {"model": "toy", "say": "Hi", "stream": True})
        assert headers["content-type"] == "application/x-ndjson"
        pieces: list[dict[str, str]] = [{"piece": "Hello "}, {"piece": "there"}, {"by": "toy"}]
        assert [json.loads(line) for line in body.splitlines()] == pieces
        status, _, body = post(port, "/toy", {"model": "none", "say": "Hi"})
        assert status == 404 and "no model" in json.loads(body)["no"]
