"""What a new backend and a new dialect need: a toy of each behind a whole server, over sockets."""

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any

import anthropic
import openai
import pytest

from bessemer.http.app import Application
from bessemer.http.auth import Auth
from bessemer.http.backends import Backend, Backends
from bessemer.http.connection import ConnectionLimits
from bessemer.http.cors import Cors
from bessemer.http.endpoints import DIALECTS, endpoints
from bessemer.http.limits import RateLimit
from bessemer.http.listen import Shutdown, bind, listen
from bessemer.http.log import Log
from bessemer.http.routes import RouteTable
from bessemer.translate.chat import Chat, Completion
from bessemer.translate.dialect import Dialect

from . import toy
from .toy import CALL, ToyBackend

HI: list[Any] = [{"role": "user", "content": "Hi"}]


@contextmanager
def serving(*models: Backend, dialects: dict[str, Dialect] | None = None) -> Iterator[int]:
    """The port of a server of these models, with dialects of its own besides the usual ones."""
    routes = endpoints(
        Backends({model.name: model for model in models}), {**DIALECTS, **(dialects or {})}
    )
    with Log("info", io.BytesIO()) as log:
        app = Application(RouteTable(routes), Auth([]), RateLimit(0), Cors(()), log, 60)
        sockets, ready = bind("127.0.0.1", 0), threading.Event()
        stop: list[Any] = []

        async def run() -> None:
            shutdown = Shutdown()
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(shutdown.ask))
            ready.set()
            await listen(
                app, sockets, ConnectionLimits(), shutdown, grace=5, interrupt=lambda: None
            )

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        ready.wait()
        try:
            yield sockets[0].getsockname()[1]
        finally:
            stop[0]()
            thread.join()


def ask(port: int, path: str, body: Any) -> tuple[int, dict[str, str], bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()


def test_a_toy_backend_in_every_dialect() -> None:
    model = ToyBackend("toy")
    with serving(model) as port:
        url = f"http://127.0.0.1:{port}"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model="toy", messages=HI)
            assert whole.choices[0].message.content == "Hello there"
            chunks = list(client.chat.completions.create(model="toy", messages=HI, stream=True))
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello there"
            text = client.completions.create(model="toy", prompt="Hi").choices[0].text
            assert text == "Hm.Hello there"
            pieces = client.completions.create(model="toy", prompt="Hi", stream=True)
            assert "".join(c.choices[0].text for c in pieces) == "Hm.Hello there"
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
        results = json.loads(ask(port, "/v1/rerank", ranked)[2])["results"]
        assert [(r["index"], r["relevance_score"]) for r in results] == [(1, 1.0), (0, 0.0)]
    assert {type(each) for each in model.asked} == {Chat, Completion}
    assert {each.client for each in model.asked} == {"127.0.0.1"}
    assert model.closed == len(model.asked) == 6


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


@pytest.mark.parametrize("path", [*DIALECTS, "/toy"])
def test_a_backend_that_refuses_before_its_first_event_and_after(path: str) -> None:
    body = {"model": "toy", "messages": HI, "max_tokens": 9, "prompt": "Hi", "say": "Hi"}
    dialect = {**DIALECTS, "/toy": toy.DIALECT}[path]
    for breaks, streams in ((0, False), (0, True), (3, False)):
        model = ToyBackend("toy", breaks=breaks)
        with serving(model, dialects={"/toy": toy.DIALECT}) as port:
            status, headers, answer = ask(port, path, body | {"stream": streams})
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"Toys break." in answer and model.closed == 1
    model = ToyBackend("toy", breaks=3)
    with serving(model, dialects={"/toy": toy.DIALECT}) as port:
        status, _, answer = ask(port, path, body | {"stream": True})
    assert status == 200 and b"Toys break." in answer.rstrip().splitlines()[-1]
    assert model.closed == 1 and dialect.framing in ("sse", "ndjson")


def test_a_toy_dialect_is_one_file_and_one_row() -> None:
    with serving(ToyBackend("toy"), dialects={"/toy": toy.DIALECT}) as port:
        status, _, body = ask(port, "/toy", {"model": "toy", "say": "Hi"})
        assert (status, json.loads(body)) == (200, {"by": "toy", "said": "Hello there"})
        status, headers, body = ask(port, "/toy", {"model": "toy", "say": "Hi", "stream": True})
        assert headers["content-type"] == "application/x-ndjson"
        pieces: list[dict[str, str]] = [{"piece": "Hello "}, {"piece": "there"}, {"by": "toy"}]
        assert [json.loads(line) for line in body.splitlines()] == pieces
        status, _, body = ask(port, "/toy", {"model": "none", "say": "Hi"})
        assert status == 404 and "no model" in json.loads(body)["no"]


def test_a_dialect_may_want_its_stream_as_one_document() -> None:
    dialect = replace(toy.DIALECT, framing="json")
    with serving(ToyBackend("toy"), dialects={"/toy": dialect}) as port:
        _, headers, body = ask(port, "/toy", {"model": "toy", "say": "Hi", "stream": True})
    assert headers["content-type"] == "application/json"
    assert [list(each) for each in json.loads(body)] == [["piece"], ["piece"], ["by"]]
