"""Embedding and reranking models behind the whole server, asked by the official package."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import psutil
import pytest

from bessemer.engine.embedding.model import Embedder, Reranker
from bessemer.http.backends import Backends
from bessemer.http.body import Body
from bessemer.http.handlers.embeddings import (
    OPENAI,
    RERANK,
    SCORE,
    CreateEmbeddings,
    RankDocuments,
)
from bessemer.http.message import HttpRequest
from bessemer.translate.openai_embeddings import Embedding
from bessemer.translate.rerank import Ranking
from tests.engine.loading import load_embedder, load_reranker
from tests.engine.minilm import ALIKE, PACKAGE, SENTENCES, directory
from tests.engine.tiny_embedders import EMBEDDERS, QUERY, RERANKERS, TEXTS
from tests.http.running import COMMAND, Server, eventually, serving
from tests.http.toy import ToyBackend

CUT, FOLDER = "mean_normalized_cut", "three_modes_lower_case_own_folder"
# Takes inputs of any length, so that one request can keep it busy for seconds.
LONG = replace(EMBEDDERS["no_modules"], limit=160)
INPUTS = [text for text in TEXTS if text]
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    models = {
        "cut": EMBEDDERS[CUT],
        "folder": EMBEDDERS[FOLDER],
        "long": LONG,
        "rank": RERANKERS["raw"],
    }
    return {name: each.write(tmp_path_factory.mktemp(name)) for name, each in models.items()}


@pytest.fixture(scope="module")
def embedder(paths: dict[str, Path]) -> Embedder:
    return load_embedder(paths["cut"])


@pytest.fixture(scope="module")
def reranker(paths: dict[str, Path]) -> Reranker:
    return load_reranker(paths["rank"])


@pytest.fixture(scope="module")
def server(paths: dict[str, Path]) -> Iterator[Server]:
    flags = [part for name, path in paths.items() for part in ("--model", f"{name}={path}")]
    with serving(*flags, "--model", "guide") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as each:
        yield each


def test_requests_reach_the_backend_with_their_caller_and_scores_their_encoder() -> None:
    backends = Backends({"toy": ToyBackend("toy")})

    def ask(handler: Any, **body: Any) -> Any:
        data = json.dumps({"model": "toy", **body}).encode()
        request = HttpRequest("POST", "/", "", (), Body(data), "192.0.2.7", "req_1", "key:a")
        return json.loads(asyncio.run(handler(request)).body)

    vectors = ask(CreateEmbeddings(OPENAI, backends), input=["a", "b"], encoding_format="base64")
    assert [each["embedding"] for each in vectors["data"]] == ["AACAPw=="] * 2
    assert (vectors["model"], vectors["usage"]["total_tokens"]) == ("toy", 5)
    ranked = ask(RankDocuments(RERANK, backends), query="q", documents=["x", "y"], top_n=1)
    assert ranked["id"].startswith("rerank-")
    assert ranked["results"] == [{"index": 1, "relevance_score": 1.0}]
    scored = ask(RankDocuments(SCORE, backends), text_1="q", text_2=["x", "y"])
    assert scored["id"].startswith("score-")
    assert [each["score"] for each in scored["data"]] == [0.0, 1.0]
    requests = backends.find("toy").requests  # type: ignore[attr-defined]
    assert [type(each) for each in requests] == [Embedding, Ranking, Ranking]
    assert {each.client for each in requests} == {"key:a"}


def test_the_banner_shows_how_to_ask_and_what_it_takes(server: Server) -> None:
    assert "/v1/embeddings" in server.banner and '"input"' in server.banner
    assert "weights" in server.banner and "context 12 tokens" in server.banner


def test_models_are_listed_like_others(client: openai.OpenAI, server: Server) -> None:
    names = ["bessemer-guide", "cut", "folder", "long", "rank"]
    assert [model.id for model in client.models.list()] == names
    assert server.ask("GET", "/v1/models/cut")[1]["context_window"] == 12
    assert server.ask("GET", "/health")[1]["models"] == dict.fromkeys(
        ["cut", "folder", "long", "rank", "bessemer-guide"], "ready"
    )


@pytest.mark.parametrize("kind", ["float", "base64", None])
def test_vectors(client: openai.OpenAI, embedder: Embedder, kind: Any) -> None:
    more: dict[str, Any] = {"extra_body": {"truncate": True}}
    if kind is not None:
        more["encoding_format"] = kind
    reply = client.embeddings.create(model="cut", input=INPUTS, **more)
    shown: list[Any] = [each.embedding for each in reply.data]
    if kind == "base64":  # which the package leaves as it is where it was asked for
        shown = [np.frombuffer(base64.b64decode(each), "<f4") for each in shown]
    assert np.abs(np.array(shown) - embedder.embed(INPUTS)).max() < 1e-5
    assert [each.index for each in reply.data] == list(range(len(INPUTS)))
    assert reply.model == "cut" and reply.object == "list"
    tokens = sum(len(each.tokens) for each in embedder.read(INPUTS))
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (tokens, tokens)


def test_tokens_a_prompt_and_fewer_dimensions(client: openai.OpenAI, embedder: Embedder) -> None:
    cases: list[tuple[Any, dict[str, Any], Any]] = [
        ([5, 6, 7], {}, embedder.embed([[5, 6, 7]])),
        ([[5, 6], [9]], {"dimensions": 7}, embedder.embed([[5, 6], [9]], dimensions=7)),
        (
            "fish",
            {"extra_body": {"prompt_name": "query"}},
            embedder.embed(["fish"], prompt="query"),
        ),
    ]
    for value, more, oracle in cases:
        reply = client.embeddings.create(model="cut", input=value, **more)
        vectors = np.array([each.embedding for each in reply.data])
        assert vectors.shape == oracle.shape and np.abs(vectors - oracle).max() < 1e-5


def test_a_model_in_a_folder_of_its_own(client: openai.OpenAI, paths: dict[str, Path]) -> None:
    reply = client.embeddings.create(model="folder", input="the DOG")
    oracle = load_embedder(paths["folder"]).embed(["the DOG"])
    assert np.abs(np.array(reply.data[0].embedding) - oracle).max() < 1e-5


def test_an_answer_that_comes_in_parts(client: openai.OpenAI, paths: dict[str, Path]) -> None:
    texts = [f"{'the cat ' * (number % 7)} {INPUTS[number % 6]}" for number in range(60)]
    reply = client.embeddings.create(model="long", input=texts)
    embedder = load_embedder(paths["long"])
    tokens = sum(len(each.tokens) for each in embedder.read(texts))
    assert reply.usage.prompt_tokens == tokens > 2 * 256
    vectors = np.array([each.embedding for each in reply.data])
    assert np.abs(vectors - embedder.embed(texts)).max() < 1e-5


def test_many_clients_at_once(client: openai.OpenAI, embedder: Embedder) -> None:
    def ask(number: int) -> list[float]:
        texts = [INPUTS[(number + at) % len(INPUTS)] for at in range(5)]
        more: dict[str, Any] = {"extra_body": {"truncate": True}}
        return client.embeddings.create(model="cut", input=texts, **more).data[0].embedding

    with ThreadPoolExecutor(12) as pool:
        vectors = list(pool.map(ask, range(36)))
    oracle = embedder.embed(INPUTS)
    for number, vector in enumerate(vectors):
        assert np.abs(np.array(vector) - oracle[number % len(INPUTS)]).max() < 1e-5


def test_rerank(server: Server, reranker: Reranker) -> None:
    scores = reranker.score(QUERY, INPUTS)
    order = sorted(range(len(INPUTS)), key=lambda row: -scores[row])
    body = {"model": "rank", "query": QUERY, "documents": INPUTS, "truncate": True}
    for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
        status, reply, _ = server.ask("POST", path, body)
        assert status == 200, reply
        assert [each["index"] for each in reply["results"]] == order
        shown = [each["relevance_score"] for each in reply["results"]]
        assert shown == pytest.approx([scores[row] for row in order], abs=1e-5)
    documents = [{"text": text} for text in INPUTS]
    more = {"documents": documents, "top_n": 2, "return_documents": True}
    shown = server.ask("POST", "/v1/rerank", body | more)[1]["results"]
    assert [each["document"]["text"] for each in shown] == [INPUTS[row] for row in order[:2]]
    tokens = sum(len(pair.tokens) for pair in reranker.read(QUERY, INPUTS))
    assert reply["usage"]["total_tokens"] == tokens


def test_score(server: Server, reranker: Reranker) -> None:
    body = {"model": "rank", "text_1": QUERY, "text_2": INPUTS, "truncate_prompt_tokens": -1}
    data = server.ask("POST", "/v1/score", body)[1]["data"]
    assert [each["score"] for each in data] == pytest.approx(
        reranker.score(QUERY, INPUTS), abs=1e-5
    )


# Mistakes


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"input": "the " * 30}, "context_length_exceeded", "input"),
        ({"input": ["fish", [4] * 13]}, "invalid_value", "input"),
        ({"input": [[4] * 13]}, "context_length_exceeded", "input"),
        ({"input": [[10**6]]}, "invalid_value", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"dimensions": 49}, "invalid_value", "dimensions"),
        ({"encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"prompt_name": "nobody"}, "invalid_value", "input"),
        ({"model": "rank"}, "unsupported_model", "model"),
    ],
)
def test_mistakes_of_an_embedding(
    client: openai.OpenAI, change: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/embeddings", body={"model": "cut", "input": "a"} | change, cast_to=object)
    assert (caught.value.code, caught.value.param) == (code, field)


def test_mistakes_of_a_ranking(server: Server) -> None:
    body = {"model": "rank", "query": QUERY, "documents": ["fish", "the " * 30]}
    status, reply, _ = server.ask("POST", "/v1/rerank", body)
    assert (status, reply["error"]["param"]) == (400, "documents")
    assert "documents[1]" in reply["error"]["message"] and "truncate" in reply["error"]["message"]
    status, reply, _ = server.ask("POST", "/v1/rerank", body | {"model": "cut"})
    assert status == 400 and "'cut' embeds texts" in reply["error"]["message"]
    for wrong in (b"", b"{", b"[]"):
        assert server.ask("POST", "/v1/rerank", wrong)[0] == 400
        assert server.ask("POST", "/v1/embeddings", wrong)[0] == 400
    assert server.ask("POST", "/v1/embeddings", {"model": "none", "input": "a"})[0] == 404
    assert server.ask("GET", "/v1/embeddings")[0] == 405


def test_what_is_no_chat_model_says_what_it_is_for(server: Server) -> None:
    chat = {"messages": HELLO, "max_tokens": 5}
    for model, where in (("cut", "/v1/embeddings"), ("rank", "/v1/rerank")):
        bodies: dict[str, dict[str, Any]] = {
            "/v1/chat/completions": chat,
            "/v1/completions": {"prompt": "a"},
            "/v1/messages": chat,
            "/v1/messages/count_tokens": {"messages": HELLO},
        }
        for path, body in bodies.items():
            status, reply, _ = server.ask("POST", path, body | {"model": model})
            assert status == 400 and where in reply["error"]["message"]
            assert ("type" in reply) == ("messages" in path)


def test_run_says_that_it_writes_nothing(paths: dict[str, Path]) -> None:
    command = [*COMMAND, "run", "hello", "--model", str(paths["cut"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "embeds texts and does nothing else" in done.stderr


# What goes wrong while it computes


def worker_of(server: Server, model: str) -> psutil.Process:
    """Return the worker that works when the model is asked."""
    before = {each.pid: sum(each.cpu_times()[:2]) for each in server.workers()}
    texts = ["the cat sleeps " * 40] * 200
    body = {"model": model, "input": texts, "truncate": True}
    assert server.ask("POST", "/v1/embeddings", body)[0] == 200
    spent = {each: sum(each.cpu_times()[:2]) - before[each.pid] for each in server.workers()}
    return max(spent, key=lambda each: spent[each])


def test_a_killed_worker_refuses_what_it_had_and_comes_back(server: Server) -> None:
    victim = worker_of(server, "long")
    body = {"model": "long", "input": ["the cat sleeps"] * 50}
    os.kill(victim.pid, signal.SIGSTOP)  # or it would be done before it is killed
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.ask, "POST", "/v1/embeddings", body)
        other = {"model": "cut", "input": "fish"}
        assert server.ask("POST", "/v1/embeddings", other)[0] == 200
        victim.kill()
        status, reply, headers = waiting.result(30)
    assert (status, reply["error"]["code"]) == (503, "worker_died") and "retry-after" in headers
    end = time.monotonic() + 60  # a busy machine is slow to start it
    while status == 503 and time.monotonic() < end:
        time.sleep(0.1)
        status, reply, _ = server.ask("POST", "/v1/embeddings", body)
    assert status == 200 and len(reply["data"]) == 50


def test_what_a_client_gave_up_is_not_computed(server: Server) -> None:
    victim = worker_of(server, "long")
    body = json.dumps({"model": "long", "input": [[5] * 140] * 2048}).encode()
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with ExitStack() as clients:
        for _ in range(40):
            each = socket.create_connection(("127.0.0.1", server.port))
            clients.enter_context(each).sendall(head + body)
        assert eventually(lambda: victim.cpu_percent(0.1) > 50)
    assert eventually(lambda: victim.cpu_percent(0.2) < 20, 12)
    assert server.ask("POST", "/v1/embeddings", {"model": "long", "input": "fish"})[0] == 200


@pytest.mark.skipif(directory() is None, reason=f"{PACKAGE} is not installed")
def test_a_real_model() -> None:
    sentences = [sentence for sentence in SENTENCES[:6] if sentence]
    with (
        serving("--model", f"mini={directory()}") as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        reply = client.embeddings.create(model="mini", input=sentences)
    vectors = np.array([each.embedding for each in reply.data])
    alike = vectors @ vectors.T - 2 * np.eye(len(vectors))
    for first, second in ALIKE:
        assert alike[first].argmax() == second
    assert vectors.shape == (6, 384) and np.abs((vectors**2).sum(axis=1) - 1).max() < 1e-5
