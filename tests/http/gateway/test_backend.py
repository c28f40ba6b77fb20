"""A provider's model behind the server's own endpoints, asked in a dialect that is no client's."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest
from anthropic import Anthropic, APIStatusError

from bessemer.engine.request import Refusal
from bessemer.http.gateway.backend import RemoteBackend, patiently
from bessemer.http.gateway.remote import Remote
from bessemer.translate.chat import (
    Chat,
    Completion,
    Done,
    Event,
    Failure,
    GenerateRequest,
    GenerationOptions,
    Heartbeat,
    Message,
    Reasoning,
    TextDelta,
    ThoughtSealed,
)
from bessemer.translate.openai_embeddings import Embedding
from bessemer.translate.parts import said
from bessemer.translate.rerank import Ranking
from bessemer.translate.tokens import Detokenize, Tokenize
from tests.http.gateway.fake import Asked, Fake, Script, Wire, provider
from tests.http.gateway.plain import USAGE, plain, remote
from tests.http.toy_server import post, serving

HI = (Message("user", said("Hi")),)
STREAM = GenerationOptions(stream=True)
WHOLE = b'{"text": "Hello there"}'
EVENTS = [{"begin": 1}, {"thought": "Hm."}, {"text": "Hello "}, {"text": "there"}, {"end": 1}]
CLAUDE: dict[str, Any] = {"model": "far/model", "max_tokens": 9}
CLAUDE["messages"] = [{"role": "user", "content": "Hi"}]
# Requests of each dialect that the plain one can say, and where the text is in its answer.
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}),
    ("/v1/responses", {"input": "Hi"}),
    ("/api/chat", {"messages": [{"role": "user", "content": "Hi"}]}),
]


def frames(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)


def streams(asked: Asked, wire: Wire) -> None:
    wire.begin()
    for event in EVENTS:
        wire.chunk(frames(event))
    wire.end()


def answers(asked: Asked, wire: Wire) -> None:
    wire.answer(WHOLE)


def events(script: Script, request: GenerateRequest, **settings: Any) -> tuple[list[Event], Fake]:
    """Return the events of a provider's answer, the Refusal that ends it as a Failure."""

    async def ask(backend: RemoteBackend) -> list[Event]:
        seen: list[Event] = []
        try:
            async with asyncio.timeout(30):
                async for event in backend.events(request):
                    seen.append(event)
        except Refusal as refusal:
            seen.append(Failure(refusal))
        await backend.remote.client.aclose()
        return seen

    with provider(script) as fake:
        return asyncio.run(ask(remote(fake.url, **settings))), fake


def refusal(script: Script, request: GenerateRequest, **settings: Any) -> Refusal:
    *_, last = events(script, request, **settings)[0]
    assert isinstance(last, Failure), last
    return last.refusal


@pytest.mark.parametrize(("path", "body"), ASKED)
@pytest.mark.parametrize("stream", [False, True])
def test_every_client_is_answered(path: str, body: dict[str, Any], stream: bool) -> None:
    script = streams if stream else answers
    with provider(script) as fake, serving(remote(fake.url)) as port:
        about = {"model": "far/model", "stream": stream}
        if path == "/v1/chat/completions":  # which would be relayed: it is OpenAI's own
            about["top_k"] = None
            path = "/v1/responses"
            body = {"input": "Hi"}
        status, _, answer = post(port, path, body | about)
    assert status == 200, answer
    assert (b"Hello there" in answer) or (b"Hello " in answer and b"there" in answer)
    told = json.loads(fake.asked[0].body)
    assert fake.asked[0].target == "/v1/plain"
    assert told == {"model": "model", "said": [["user", "Hi"]], "max_tokens": 9}


def test_an_answer_is_told_in_events_whole_or_streamed() -> None:
    whole, fake = events(answers, Chat("far/model", HI))
    assert [e.text for e in whole if isinstance(e, TextDelta)] == ["Hello there"]
    assert whole[-1] == Done(USAGE) and fake.asked[0].headers["accept"] == "application/json"
    streamed, fake = events(streams, Chat("far/model", HI, STREAM))
    assert [e.text for e in streamed if isinstance(e, TextDelta)] == ["Hello ", "there"]
    assert streamed[-1] == Done(USAGE) and fake.asked[0].headers["accept"] == "text/event-stream"
    # One that does not stream although it was asked to.
    assert events(answers, Chat("far/model", HI, STREAM))[0] == whole


def test_thoughts_go_where_the_client_wants_them() -> None:
    def shown(where: Any) -> list[Event]:
        return events(streams, Chat("m", HI, STREAM, reasoning=Reasoning(shown=where)))[0][1:]

    texts = [TextDelta(0, "Hello "), TextDelta(0, "there")]
    assert shown("hidden")[:2] == texts
    assert shown("sealed")[:3] == [ThoughtSealed(0, "Hm."), *texts]
    inline = "".join(e.text for e in shown("inline") if isinstance(e, TextDelta))
    assert inline == "<think>\nHm.\n</think>\n\nHello there"


def test_a_model_that_is_only_to_be_there_is_not_asked() -> None:
    seen, fake = events(answers, Chat("m", ()))
    assert isinstance(seen[-1], Done) and not fake.asked


def test_what_the_dialect_cannot_say_is_refused_before_anybody_is_asked_unless_it_may_be_lost() -> (
    None
):
    chat = Chat("m", HI, GenerationOptions(top_k=5))
    seen, fake = events(answers, chat)
    assert isinstance(seen[0], Failure) and seen[0].refusal.field == "top_k" and not fake.asked
    assert events(answers, chat, lossy=True)[0][-1] == Done(USAGE)


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        (b"<html>Welcome</html>", "text/html", "HTML|malformed|Expecting|JSON"),
        (b'{"text": ', "application/json", "Expecting"),
        (b'{"other": 1}', "application/json", "it has no text"),
    ],
)
@pytest.mark.parametrize("options", [GenerationOptions(), STREAM])
def test_what_is_no_answer_names_the_provider(
    answer: bytes, kind: str, why: str, options: GenerationOptions
) -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(answer, "200 OK", f"content-type: {kind}")

    found = refusal(script, Chat("m", HI, options))
    assert (found.status, found.code) == (502, "proxy_error")
    assert "'far' sent no answer" in found.message
    assert any(each in found.message for each in why.split("|")), found.message


def broken_stream(*pieces: bytes, end: Callable[[Wire], None]) -> Script:
    def script(asked: Asked, wire: Wire) -> None:
        wire.begin()
        for piece in pieces:
            wire.chunk(piece)
        end(wire)

    return script


BEGUN = frames({"begin": 1}, {"text": "Hello "})


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (broken_stream(BEGUN, end=Wire.close), "closed before it was whole"),
        (broken_stream(BEGUN, b'data: {"te', end=Wire.close), "closed before it was whole"),
        (broken_stream(BEGUN, end=Wire.end), "ended before it was over"),
        (broken_stream(BEGUN, b"data: {]\n\n", end=Wire.end), "sent no answer"),
        (broken_stream(BEGUN, frames({"what": 1}), end=Wire.end), "no event of the dialect"),
        (broken_stream(BEGUN, frames({"error": "Oh no"}), end=Wire.end), "Oh no"),
        (broken_stream(BEGUN, b"data: " + b"x" * 2**25, end=Wire.end), "an event has over"),
    ],
)
def test_a_stream_that_breaks_says_why(script: Script, why: str) -> None:
    seen, _ = events(script, Chat("m", HI, STREAM))
    assert TextDelta(0, "Hello ") in seen
    assert isinstance(seen[-1], Failure) and why in seen[-1].refusal.message
    assert seen[-1].refusal.status in (502, 529)


def test_clients_of_a_broken_stream_get_the_error_of_their_dialect() -> None:
    script = broken_stream(BEGUN, end=Wire.close)
    with provider(script) as fake, serving(remote(fake.url)) as port:
        with (
            Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="k", max_retries=0) as claude,
            pytest.raises(APIStatusError, match="'far' broke off its answer"),
            claude.messages.stream(**CLAUDE) as stream,
        ):
            assert "".join(stream.text_stream)
        about = {"model": "far/model", "stream": True, "input": "Hi"}
        _, _, answer = post(port, "/v1/responses", about)
        assert b"event: response.failed" in answer and b"'far' broke off" in answer
        about = {"model": "far/model", "messages": [{"role": "user", "content": "Hi"}]}
        _, _, answer = post(port, "/api/chat", about)
        *_, last = answer.splitlines()
        assert "'far' broke off" in json.loads(last)["error"]


def test_a_silent_provider_is_waited_for_with_signs_of_life() -> None:
    head, go_on = threading.Event(), threading.Event()

    def script(asked: Asked, wire: Wire) -> None:
        assert head.wait(20)
        wire.begin()
        wire.chunk(frames({"begin": 1}))
        assert go_on.wait(20)
        wire.chunk(frames({"end": 1}))
        wire.end()

    async def ask(url: str) -> list[Event]:
        backend, seen = remote(url, heartbeat=0.01), list[Event]()
        async for event in backend.events(Chat("m", HI, STREAM)):
            if isinstance(event, Heartbeat):
                (go_on if head.is_set() and len(seen) > 1 else head).set()
            if not isinstance(event, Heartbeat) or not isinstance((seen or [None])[-1], Heartbeat):
                seen.append(event)
        await backend.remote.client.aclose()
        return seen

    with provider(script) as fake:
        seen = asyncio.run(ask(fake.url))
    kinds = [type(event).__name__ for event in seen]
    assert kinds == ["Heartbeat", "AnswerStarted", "Heartbeat", "Finish", "Done"]


def test_a_client_that_goes_closes_the_provider_s_connection() -> None:
    noticed = threading.Event()

    def script(asked: Asked, wire: Wire) -> None:
        wire.begin()
        wire.chunk(frames({"begin": 1}, {"text": "Hello "}))
        if wire.closed():
            noticed.set()

    with provider(script) as fake, serving(remote(fake.url)) as port:
        with (
            Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="k", max_retries=0) as claude,
            claude.messages.stream(**CLAUDE) as stream,
        ):
            assert next(iter(stream.text_stream)) == "Hello "
        assert noticed.wait(20)


def test_a_connection_is_kept_after_a_stream() -> None:
    async def ask(url: str) -> None:
        backend = remote(url)
        for _ in range(3):
            async for _event in backend.events(Chat("m", HI, STREAM)):
                pass
            while not backend.remote.client._idle:
                await asyncio.sleep(0.001)
        await backend.remote.client.aclose()

    with provider(streams) as fake:
        asyncio.run(ask(fake.url))
        assert fake.connections == 1 and len(fake.asked) == 3


def test_what_a_provider_s_dialect_has_not_is_refused() -> None:
    async def each(backend: RemoteBackend) -> list[Refusal]:
        found = []
        for work in (
            anext(backend.events(Completion("m", ("Once",)))),
            backend.embed(Embedding("m", ("a",))),
            backend.rerank(Ranking("m", "a", ("b",))),
            backend.render(Chat("m", HI)),
            backend.tokenize(Tokenize("m")),
            backend.detokenize(Detokenize("m", ())),
        ):
            with pytest.raises(Refusal) as caught:
                await work
            found.append(caught.value)
        return found

    found = asyncio.run(each(remote("http://127.0.0.1:9", "anthropic")))
    assert {each.status for each in found} == {400}
    assert all("'far'" in each.message and "anthropic" in each.message for each in found)


def test_tokens_are_counted_by_anthropic_and_estimated_elsewhere() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b'{"input_tokens": 14}')

    def count(backend: RemoteBackend) -> tuple[dict[str, str], int]:
        with serving(backend) as port:
            body = {"model": "far/model", "messages": [{"role": "user", "content": "word " * 40}]}
            status, headers, answer = post(port, "/v1/messages/count_tokens", body)
            assert status == 200, answer
            return headers, json.loads(answer)["input_tokens"]

    with provider(script) as fake:
        responses = "/v1/responses/input_tokens"
        with serving(remote(fake.url, "anthropic")) as port:  # which no Anthropic client asked
            status, headers, answer = post(port, responses, {"model": "far/model", "input": "Hi"})
        assert (status, json.loads(answer)["input_tokens"]) == (200, 14)
        assert "x-bessemer-count" not in headers
        assert fake.asked[0].target == "/v1/messages/count_tokens"
        assert json.loads(fake.asked[0].body) == {"model": "model"}  # and not max_tokens
        headers, estimate = count(remote(fake.url))
        assert headers["x-bessemer-count"] == "estimate" and 30 < estimate < 70
        assert count(remote(fake.url, "anthropic", stub_count_tokens=True))[1] == 0
        assert len(fake.asked) == 1


KEYS: list[tuple[dict[str, Any], dict[str, str], dict[str, str]]] = [
    ({"api_key": "ours"}, {"authorization": "Bearer theirs"}, {"x-api-key": "ours"}),
    ({}, {"authorization": "Bearer theirs"}, {"x-api-key": "theirs"}),
    ({}, {"x-api-key": "theirs"}, {"x-api-key": "theirs"}),
    ({}, {"authorization": "Basic dXNlcjpwdw=="}, {}),
    ({"strip_auth": True}, {"authorization": "Bearer theirs"}, {}),
    ({"api_key": "ours", "pass_auth": True}, {"x-api-key": "theirs"}, {"x-api-key": "theirs"}),
    ({"api_key": "ours", "pass_auth": True}, {}, {"x-api-key": "ours"}),
    ({"headers": {"X-Api-Key": "set", "X-Team": "a"}}, {}, {"x-api-key": "set", "x-team": "a"}),
]


@pytest.mark.parametrize(("settings", "sent", "told"), KEYS)
def test_the_key_is_the_provider_s_or_the_client_s_in_the_provider_s_header(
    settings: dict[str, Any], sent: dict[str, str], told: dict[str, str]
) -> None:
    with provider(answers) as fake, serving(remote(fake.url, "anthropic", **settings)) as port:
        body = {"model": "far/model", "input": "Hi"}
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:
            bare = {"authorization": openai.omit}
            client.post("/responses", body=body, cast_to=object, options={"headers": bare | sent})
    headers = fake.asked[0].headers
    about = {"authorization", "x-api-key", "x-team"}
    assert {name: value for name, value in headers.items() if name in about} == told
    assert headers["anthropic-version"] == "2023-06-01"


def test_a_key_of_this_server_s_never_leaves() -> None:
    """The other header's, which is not ours, does."""
    for sent, told in (
        ({"authorization": "Bearer ours"}, None),
        ({"x-api-key": "ours"}, None),
        ({"x-api-key": "ours", "authorization": "Bearer ours"}, None),
        ({"authorization": "Bearer ours", "x-api-key": "theirs"}, "Bearer theirs"),
    ):
        for passing in (False, True):
            settings: dict[str, Any] = {"pass_auth": True} if passing else {}
            with (
                provider(answers) as fake,
                serving(remote(fake.url, **settings), keys=["ours"]) as port,
            ):
                status, _, _ = post(
                    port, "/v1/messages", ASKED[1][1] | {"model": "far/model"}, sent
                )
            assert status == 200
            assert fake.asked[0].headers.get("authorization") == told
            assert "ours" not in "".join(fake.asked[0].lines)


def test_work_that_nobody_waits_for_is_cancelled() -> None:
    async def run() -> bool:
        never = asyncio.get_running_loop().create_future()

        async def work() -> None:
            await never

        waiting = patiently(work(), 0.001)
        assert isinstance(await anext(waiting), Heartbeat)
        await waiting.aclose()
        await asyncio.sleep(0)
        return never.cancelled()

    assert asyncio.run(run())


def test_a_remote_knows_no_more_than_its_provider() -> None:
    async def about() -> RemoteBackend:
        return remote("http://127.0.0.1:9")

    backend = asyncio.run(about())
    assert backend.status().ready and backend.about is None
    assert isinstance(backend.remote, Remote) and plain().format == "openai"
