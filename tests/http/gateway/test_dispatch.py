"""Requests on their way to other servers, through a real server, from config.toml to the answer."""

import json
import threading
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import openai
import pytest
from anthropic import Anthropic, APIStatusError

from tests.http.gateway.fake import Asked, Fake, Script, Wire, provider
from tests.http.gateway.served import ANSWER, Served, fails, says, served
from tests.http.toy import ToyBackend
from tests.http.toy_server import post

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
CHAT = "/v1/chat/completions"


def hangs(asked: Asked, wire: Wire) -> None:
    wire.closed()


class Providers(ExitStack):
    """Fake providers by name, as the tables of a config.toml."""

    def __init__(self, **scripts: Script) -> None:
        super().__init__()
        self.fakes: dict[str, Fake] = {}
        self.text = ""
        for name, script in scripts.items():
            fake = self.fakes[name] = self.enter_context(provider(script))
            self.text += f'[providers.{name}]\nurl = "{fake.url}/v1"\n'


def chat(server: Served, model: str, **sent: str) -> tuple[int, dict[str, str], Any]:
    status, headers, body = post(server.port, CHAT, {**HI, "model": model}, sent)
    return status, headers, json.loads(body)


def test_a_route_leads_to_a_provider_by_its_own_name_for_the_model(tmp_path: Path) -> None:
    with Providers(far=says) as there:
        route = '[[routes]]\npattern = "^gpt"\nprovider = "far"\nmodel = "theirs"\nname = "gpt"\n'
        toy = ToyBackend("own")
        with served(tmp_path, there.text + route, toy) as server:
            status, headers, answer = chat(server, "gpt-9")
            assert (status, answer) == (200, ANSWER)
            assert headers["x-bessemer-route"] == "pattern gpt; far/theirs"
            assert json.loads(there.fakes["far"].asked[0].body) == {**HI, "model": "theirs"}
            _, headers, answer = chat(server, "own")
            assert headers["x-bessemer-route"] == "local; local/own" and len(toy.requests) == 1
            status, headers, answer = chat(server, "unknown")
            assert status == 404 and "x-bessemer-route" not in headers
            assert "has: own" in answer["error"]["message"]


def test_a_model_s_name_breaks_no_header(tmp_path: Path) -> None:
    default = '[default]\nprovider = "far"\n'
    with Providers(far=says) as there, served(tmp_path, there.text + default) as server:
        status, headers, answer = chat(server, "a\r\nx-forged: 1\u00e9" + "m" * 600)
    assert (status, answer) == (200, ANSWER) and "x-forged" not in headers
    assert headers["x-bessemer-route"].startswith("default; far/a??x-forged: 1?mm")
    assert len(headers["x-bessemer-route"]) == 500


def test_clients_of_other_dialects_are_answered_in_theirs(tmp_path: Path) -> None:
    with Providers(far=says) as there, served(tmp_path, there.text) as server:
        with Anthropic(api_key="key", base_url=f"http://127.0.0.1:{server.port}") as client:
            message = client.messages.create(model="far/m", **HI)
        assert message.content[0].text == "Hello"  # type: ignore[union-attr]
        assert (message.usage.input_tokens, message.usage.output_tokens) == (30, 12)
        status, _, body = post(server.port, "/api/chat", {**HI, "model": "far/m", "stream": False})
        assert status == 200 and json.loads(body)["message"]["content"] == "Hello"


@pytest.mark.parametrize("first", [fails("503 No"), fails("429 No"), fails("500 No"), hangs])
def test_k13_a_tier_goes_on_to_the_next_target(first: Script, tmp_path: Path) -> None:
    """K1.2, K1.3: dead, broken, busy or slow ones are passed over, in any dialect."""
    tier = '[tiers.fast]\ntargets = ["dead/x", "first/x", "own"]\nfirst_byte = 0.3\n'
    dead = '[providers.dead]\nurl = "http://127.0.0.1:9"\n'
    toy = ToyBackend("own")
    with Providers(first=first) as there, served(tmp_path, there.text + dead + tier, toy) as server:
        status, headers, answer = chat(server, "fast")
        assert status == 200 and answer["choices"][0]["message"]["content"] == "Hello there"
        assert headers["x-bessemer-route"] == "tier fast; local/own"
        assert [len(fake.asked) for fake in there.fakes.values()] == [1]


def test_what_a_request_itself_is_refused_for_is_told_by_the_first(tmp_path: Path) -> None:
    tier = '[tiers.fast]\ntargets = ["first/x", "second/x"]\n'
    with Providers(first=fails("400 No"), second=says) as there:
        with served(tmp_path, there.text + tier) as server:
            status, _, answer = chat(server, "fast")
        assert (status, answer) == (400, {"error": {"message": "No."}})
        assert there.fakes["second"].asked == []


def test_after_the_first_byte_no_other_target_is_asked(tmp_path: Path) -> None:
    def breaks(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"A"}}]}\n\n')
        wire.close()

    tier = '[tiers.fast]\ntargets = ["first/x", "second/x"]\n'
    with Providers(first=breaks, second=says) as there:
        with served(tmp_path, there.text + tier) as server:
            texts, base = list[str](), f"http://127.0.0.1:{server.port}"
            with (
                Anthropic(api_key="key", base_url=base, max_retries=0) as client,
                pytest.raises(APIStatusError, match="broke off"),
                client.messages.stream(model="fast", **HI) as stream,
            ):
                texts += stream.text_stream
        assert there.fakes["second"].asked == []


def test_what_a_route_asks_is_said_to_the_provider(tmp_path: Path) -> None:
    route = (
        '[[routes]]\npattern = "x"\nprovider = "far"\nmax_tokens_cap = 3\nsystem = "Be brief."\n'
    )
    with Providers(far=says) as there, served(tmp_path, there.text + route) as server:
        assert chat(server, "x")[0] == 200
        sent = json.loads(there.fakes["far"].asked[0].body)
    assert sent["max_tokens"] == 3
    assert [(each["role"], each["content"]) for each in sent["messages"]] == [
        ("system", "Be brief."), ("user", "Hi")
    ]  # fmt: skip


def test_a_field_that_a_dialect_does_not_have_is_refused_unless_the_route_is_lossy(
    tmp_path: Path,
) -> None:
    body = {**HI, "model": "strict", "min_tokens": 3}
    for lossy in (False, True):
        route = f'[[routes]]\npattern = "strict"\nprovider = "far"\nlossy = {str(lossy).lower()}\n'
        route += "temperature = 1\n"  # so that it is not passed through as it is
        with Providers(far=says) as there, served(tmp_path, there.text + route) as server:
            status, _, answer = post(server.port, CHAT, body)
        assert status == (200 if lossy else 400)
        assert lossy or json.loads(answer)["error"]["param"] == "min_tokens"


KEYS = """
[keys.alice]
key = "env:ALICE"
models = ["far/*"]
budget = 0.1
[keys.bob]
key = "sk-bob"
requests_per_minute = 2
[prices."far/m"]
input = 1000
output = 1000
"""


def test_keys_have_models_rates_and_budgets_that_outlive_the_server(tmp_path: Path) -> None:
    alice, bob = ({"authorization": f"Bearer sk-{name}"} for name in ("alice", "bob"))
    with Providers(far=says, near=says) as there:
        text = there.text + KEYS
        with served(tmp_path, text, ALICE="sk-alice") as server:
            assert chat(server, "far/m")[0] == 401
            status, _, answer = chat(server, "near/m", **alice)
            assert status == 403 and answer["error"]["code"] == "model_not_allowed"
            assert [chat(server, "far/m", **alice)[0] for _ in range(3)] == [200] * 3
            status, headers, answer = chat(server, "far/m", **alice)  # 3 times 42 thousandths
            assert (status, answer["error"]["code"]) == (429, "insufficient_quota")
            assert int(headers["retry-after"]) > 0
            assert [chat(server, "near/m", **bob)[0] for _ in range(3)] == [200, 200, 429]
        with served(tmp_path, text, ALICE="sk-alice") as server:
            assert chat(server, "far/m", **alice)[0] == 429
            assert chat(server, "near/m", **bob)[0] == 200
        sent = [each.headers for fake in there.fakes.values() for each in fake.asked]
    assert len(sent) == 6 and not any("authorization" in each for each in sent)
    assert "sk-" not in server.log


def test_streams_are_counted_too_whoever_answers_them(tmp_path: Path) -> None:
    def streams(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"A"}}]}\n\n')
        wire.chunk(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
        wire.chunk(b'data: {"choices":[],"usage":{"prompt_tokens":60,"completion_tokens":50}}\n\n')
        wire.chunk(b"data: [DONE]\n\n")
        wire.end()

    keys = '[keys.a]\nkey = "sk"\ntokens_per_minute = 100\n'
    with Providers(far=streams) as there:
        for speak in ("openai", "anthropic"):
            with served(tmp_path, there.text + keys) as server:
                base = f"http://127.0.0.1:{server.port}"
                if speak == "openai":
                    with openai.OpenAI(api_key="sk", base_url=f"{base}/v1") as client:
                        assert [*client.chat.completions.create(model="far/m", stream=True, **HI)]
                else:
                    with (
                        Anthropic(api_key="sk", base_url=base) as other,
                        other.messages.stream(model="far/m", **HI) as stream,
                    ):
                        assert [*stream.text_stream] == ["A"]
                status, headers, answer = chat(server, "far/m", authorization="Bearer sk")
                assert status == 429 and "100 tokens a minute" in answer["error"]["message"]
                assert 50 < int(headers["retry-after"]) <= 60


def test_settings_come_anew_without_a_dropped_stream(tmp_path: Path) -> None:
    go = threading.Event()

    def streams(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(b"data: {}\n\n")
        assert go.wait(30)
        wire.chunk(b"data: [DONE]\n\n")
        wire.end()

    route = '[[routes]]\npattern = "x"\nprovider = "{}"\n'
    with Providers(old=streams, new=says) as there:
        text = there.text + route.format("old")
        with (
            served(tmp_path, text) as server,
            closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection,
        ):
            connection.request("POST", CHAT, json.dumps({**HI, "model": "x", "stream": True}))
            response = connection.getresponse()
            first = response.read1()
            assert not server.reload("[providers")
            assert not server.reload(there.text + route.format("gone"))
            assert server.reload(there.text + route.format("new") + "[server]\nport = 7\n")
            assert chat(server, "x")[2] == ANSWER
            go.set()
            assert first + response.read() == b"data: {}\n\ndata: [DONE]\n\n"
    for told in ("is no TOML", "no such provider", "read anew", "only a restart changes port"):
        assert told in server.log


def test_without_a_gateway_s_tables_nothing_is_looked_for(tmp_path: Path) -> None:
    with served(tmp_path, "", ToyBackend("own")) as server:
        status, headers, _ = chat(server, "own")
    assert status == 200 and "x-bessemer-route" not in headers
