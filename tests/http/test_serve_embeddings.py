"""Embeddings of chat models behind the whole server, asked by the official packages."""

import base64
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import ollama
import openai
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from tests.architectures.parity import tiny
from tests.architectures.tiny import VOCABULARY, prompts
from tests.engine.golden_vectors import GOLDEN
from tests.http.running import Server, eventually, serving

# With windows, with latents, with states; none has a file that says how it would embed.
MODELS = ["mistral_ministral_all_slide", "deepseek_v2_lite_yarn", "qwen3_next_shared_keys"]
LATENT = MODELS[1]
GUIDE = "bessemer-guide"
CONTEXT = 256
TEXTS = [" ".join(f"w{token}" for token in ids) for ids in prompts()]
TOKENS = sum(map(len, prompts()))
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = ["--cpu-precision", "exact", "--threads", "1", "--model", "guide"]
    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    for name in MODELS:
        path: Path = tiny(name).write(tmp_path_factory.mktemp(name))
        tokenizer.save(str(path / "tokenizer.json"))
        arguments += ["--model", f"{name}={path}"]
    with serving(*arguments) as running:
        yield running


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in MODELS}


def off(vectors: Any, oracle: np.ndarray) -> float:
    return float(np.abs(np.array(vectors) - oracle).max())


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_the_mean_of_transformers_hidden_states(
    name: str, client: openai.OpenAI, golden: dict[str, np.ndarray]
) -> None:
    """seed_details H5.9: float lists by default, and M6."""
    for given in (TEXTS, prompts()):
        reply = client.embeddings.create(model=name, input=given, encoding_format="float")
        assert off([each.embedding for each in reply.data], golden[name]) < 1e-5
        assert [each.index for each in reply.data] == list(range(8)) and reply.model == name
        assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (TOKENS, TOKENS)


def test_one_text_in_base64_with_fewer_dimensions(
    client: openai.OpenAI, server: Server, golden: dict[str, np.ndarray]
) -> None:
    cut = golden[LATENT][0][:7] / np.linalg.norm(golden[LATENT][0][:7])
    for kind in ("float", "base64"):
        body = {"model": LATENT, "input": TEXTS[0], "dimensions": 7, "encoding_format": kind}
        status, reply, _ = server.ask("POST", "/embeddings", body)  # the path without /v1
        shown = reply["data"][0]["embedding"]
        if kind == "base64":
            shown = np.frombuffer(base64.b64decode(shown), "<f4")
        assert status == 200 and off(shown, cut) < 1e-5
    default = client.embeddings.create(model=LATENT, input=TEXTS[0])  # the package asks for base64
    assert off(default.data[0].embedding, golden[LATENT][0]) < 1e-5


def test_ollamas_package(server: Server, golden: dict[str, np.ndarray]) -> None:
    with ollama.Client(host=server.url) as client:
        reply = client.embed(LATENT, TEXTS)
        assert off(reply.embeddings, golden[LATENT]) < 1e-5
        assert reply.prompt_eval_count == TOKENS and reply.total_duration
        assert off(client.embeddings(LATENT, TEXTS[3]).embedding, golden[LATENT][3]) < 1e-5
        (cut,) = client.embed(LATENT, TEXTS[0], dimensions=5).embeddings
        assert len(cut) == 5 and sum(x * x for x in cut) == pytest.approx(1, abs=1e-6)
        shown = client.show(GUIDE).capabilities
        assert shown is not None and {"completion", "embedding"} <= {*shown}
        long = "w1 " * (CONTEXT + 1)
        assert client.embed(LATENT, long).prompt_eval_count == CONTEXT
        with pytest.raises(ollama.ResponseError, match="257 tokens") as caught:
            client.embed(LATENT, long, truncate=False)
        assert caught.value.status_code == 400
        assert client.embed(LATENT, []).embeddings == []  # it is only to be there


def test_what_is_cut_is_the_end(client: openai.OpenAI) -> None:
    ids = [number % VOCABULARY for number in range(CONTEXT + 50)]
    text = " ".join(f"w{token}" for token in ids)
    more: Any = {"model": LATENT, "extra_body": {"truncate": True}}
    whole, cut, tokens = (
        client.embeddings.create(input=given, **more) for given in (ids[:CONTEXT], text, ids)
    )
    assert whole.data[0].embedding == cut.data[0].embedding == tokens.data[0].embedding
    assert cut.usage.prompt_tokens == CONTEXT


@pytest.mark.parametrize(
    ("change", "code", "field", "says"),
    [
        ({"input": ["w1", "w1 " * 257]}, "context_length_exceeded", "input", r"input\[1\].*257"),
        ({"input": "w1 " * 10**6}, "context_length_exceeded", "input", r"input\[0\]"),
        ({"input": [[1], [1] * 257]}, "context_length_exceeded", "input", r"input\[1\].*257"),
        ({"input": ["w1", [1], "w2"]}, "invalid_value", "input", "input"),
        ({"input": [[1, 80]]}, "invalid_value", "input", r"input\[0\]: 80 is no token id"),
        ({"input": "  "}, "invalid_value", "input", r"input\[0\]: It has no tokens"),
        ({"input": ""}, "invalid_value", "input", "empty"),
        ({"input": []}, "invalid_value", "input", "empty"),
        ({"dimensions": 65}, "invalid_value", "dimensions", "have 64"),
        ({"prompt_name": "query"}, "invalid_value", "prompt_name", "no prompt named 'query'"),
    ],
)
def test_mistakes(
    client: openai.OpenAI, change: dict[str, Any], code: str, field: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        client.post("/embeddings", body={"model": LATENT, "input": "w1"} | change, cast_to=object)
    assert (caught.value.code, str(caught.value.param).partition("[")[0]) == (code, field)


def test_a_chat_model_ranks_nothing_and_says_what_it_does(server: Server) -> None:
    bodies = {
        "/v1/rerank": {"query": "a", "documents": ["b"]},
        "/v1/score": {"text_1": "a", "text_2": ["b"]},
    }
    for path, body in bodies.items():
        status, reply, _ = server.ask("POST", path, body | {"model": GUIDE})
        assert (status, reply["error"]["code"]) == (400, "unsupported_model")
        assert "/v1/chat/completions or /v1/embeddings" in reply["error"]["message"]


def test_streams_beside_a_flood_of_texts_say_the_same(server: Server) -> None:
    chat = {"messages": HELLO, "model": GUIDE, "temperature": 0, "max_tokens": 40, "logprobs": True}

    def stream() -> list[Any]:
        events = [data for _, data in server.stream("/v1/chat/completions", chat)]
        scores = (data["choices"][0]["logprobs"] for data in events if data != "[DONE]")
        return [token for each in scores if each for token in each["content"]]

    def embed() -> tuple[int, Any, Any]:
        texts = [f"{number} " + "What is Bessemer? " * (number % 40) for number in range(80)]
        return server.ask("POST", "/v1/embeddings", {"model": GUIDE, "input": texts})

    alone = stream()
    assert len(alone) > 10
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(embed)
        beside = [stream()]
        while not flood.done():
            beside.append(stream())
    assert all(each == alone for each in beside) and flood.result()[0] == 200
    assert len(flood.result()[1]["data"]) == 80


def test_texts_are_the_same_alone_as_together(client: openai.OpenAI) -> None:
    texts = [f"{number} " + "Why is steel hard? " * (number % 30) for number in range(40)]
    together = client.embeddings.create(model=GUIDE, input=texts).data
    for row in (0, 29, 39):
        assert client.embeddings.create(model=GUIDE, input=texts[row]).data[0] == replaced(
            together[row]
        )


def replaced(entry: Any) -> Any:
    return entry.model_copy(update={"index": 0})


def test_what_a_client_gave_up_is_not_computed(server: Server) -> None:
    def status() -> Any:
        return server.ask("GET", f"/v1/status?model={GUIDE}")[1]

    def pages() -> int:
        cache: dict[str, int] | None = status()["cache"]
        return cache["pages_in_use"] if cache else 0

    body = json.dumps({"model": GUIDE, "input": ["Steel is hard. " * 60] * 600}).encode()
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    before = status()["total_requests_processed"]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + body)
        assert eventually(pages)
    assert eventually(lambda: not pages(), 30)
    assert status()["total_requests_processed"] == before
