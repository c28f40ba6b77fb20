"""Responses over HTTP by the official package: made, streamed, kept, gone on from, asked for."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from bessemer.http.handlers.answers import QUICK
from bessemer.http.responses import endpoints
from bessemer.http.responses.background import BackgroundResponses
from bessemer.http.responses.keeping import KeptResponses
from bessemer.http.responses.store import ResponseStore, StoredResponse
from bessemer.translate.chat import Chat
from bessemer.translate.openai_responses_request import decode_request
from tests.http.responses.gated import GatedBackend, client, keeping
from tests.http.running import eventually
from tests.http.toy import CALL, TEXT, ToyBackend
from tests.http.toy_server import post, serving
from tests.translate.responses_stream import checked

ADD: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}}


@pytest.fixture(scope="module")
def model() -> ToyBackend:
    return ToyBackend("toy")


@pytest.fixture(scope="module")
def server(model: ToyBackend) -> Iterator[openai.OpenAI]:
    with keeping(model, ToyBackend("call", CALL)) as url, client(url) as each:
        yield each


def turns(model: ToyBackend) -> list[tuple[str, str]]:
    """Return the turns of the newest request."""
    chat = model.requests[-1]
    assert isinstance(chat, Chat)
    return [(turn.role, turn.text) for turn in chat.messages]


def events(stream: Any) -> list[dict[str, Any]]:
    return [event.to_dict() for event in stream]


def test_a_response_whole_and_streamed(server: openai.OpenAI) -> None:
    whole = server.responses.create(model="toy", input="Hi")
    assert (whole.status, whole.output_text) == ("completed", "Hello there")
    assert whole.id.startswith("resp_") and whole.created_at <= (whole.completed_at or 0)
    told = events(server.responses.create(model="toy", input="Hi", stream=True))
    assert checked(told)["output"][1]["content"][0]["text"] == "Hello there"
    with server.responses.stream(model="toy", input="Hi") as stream:
        texts = [e.delta for e in stream if e.type == "response.output_text.delta"]
        assert texts == ["Hello ", "there"]
        assert stream.get_final_response().output_text == "Hello there"


def test_a_call_and_its_result(server: openai.OpenAI) -> None:
    with server.responses.stream(model="call", input="1+1?", tools=[ADD]) as stream:
        final = stream.get_final_response()
    (call,) = final.output
    assert call.type == "function_call" and call.arguments == '{"a":1}'
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "2"}
    again = server.responses.create(model="toy", previous_response_id=final.id, input=[result])
    assert again.previous_response_id == final.id


def test_a_response_goes_on_from_another(server: openai.OpenAI, model: ToyBackend) -> None:
    first = server.responses.create(model="toy", input="one", instructions="Be brief.")
    second = server.responses.create(model="toy", input="two", previous_response_id=first.id)
    server.responses.create(model="toy", input="three", previous_response_id=second.id)
    said = [("user", "one"), ("assistant", "Hello there"), ("user", "two")]
    assert turns(model) == [*said, ("assistant", "Hello there"), ("user", "three")]
    chat = model.requests[-1]
    assert isinstance(chat, Chat) and chat.messages[1].reasoning == "Hm."
    counted = server.responses.input_tokens.count(model="toy", previous_response_id=first.id)
    assert (counted.input_tokens, counted.object) == (42, "response.input_tokens")


def test_a_streamed_response_is_kept_before_its_client_hears_its_end(server: openai.OpenAI) -> None:
    seen = 0
    for event in server.responses.create(model="toy", input="one", stream=True):
        if event.type == "response.completed":
            again = server.responses.retrieve(event.response.id)
            assert again.to_dict() == event.response.to_dict()
            seen += 1
    assert seen == 1


def test_a_kept_response_is_read_listed_and_deleted(server: openai.OpenAI) -> None:
    items: list[Any] = [{"role": "user", "content": str(at)} for at in range(5)]
    made = server.responses.create(model="toy", input=items, metadata={"a": "b"})
    assert server.responses.retrieve(made.id).to_dict() == made.to_dict()
    newest = [item.content[0].text for item in server.responses.input_items.list(made.id)]  # type: ignore[union-attr, index]
    assert newest == ["4", "3", "2", "1", "0"]
    page = server.responses.input_items.list(made.id, order="asc", limit=2)
    assert page.has_next_page() and len(page.data) == 2
    every = [item.content[0].text for item in page]  # type: ignore[union-attr, index]
    assert every == ["0", "1", "2", "3", "4"]
    for wrong in ({"order": "up"}, {"limit": 0}, {"limit": 101}, {"after": "msg_no"}):
        with pytest.raises(openai.BadRequestError) as caught:
            server.responses.input_items.list(made.id, **wrong)  # type: ignore[arg-type]
        assert caught.value.param in wrong
    assert server.responses.retrieve(made.id, extra_query={"stream": "0"}).id == made.id
    for streams in ("maybe", "1"):  # neither is taken for no
        with pytest.raises(openai.BadRequestError, match="stream") as caught:
            server.responses.retrieve(made.id, extra_query={"stream": streams})
        assert caught.value.param == "stream"
    told = server.delete(f"/responses/{made.id}", cast_to=object)
    assert told == {"id": made.id, "object": "response", "deleted": True}
    for ask in (
        server.responses.retrieve,
        server.responses.delete,
        server.responses.cancel,
        server.responses.input_items.list,
    ):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)  # type: ignore[operator]


def test_items_are_named_instead_of_sent_again(server: openai.OpenAI, model: ToyBackend) -> None:
    made = server.responses.create(model="toy", input="one")
    named: list[Any] = [{"type": "item_reference", "id": item.id} for item in made.output]
    server.responses.create(model="toy", input=[*named, {"role": "user", "content": "two"}])
    assert turns(model) == [("assistant", "Hello there"), ("user", "two")]
    with pytest.raises(openai.NotFoundError) as caught:
        server.responses.create(model="toy", input=[{"type": "item_reference", "id": "msg_no"}])
    assert caught.value.param == "input[0].id"


@pytest.mark.parametrize(
    ("size", "kept", "beside"), [(9, 9, False), (QUICK, 9, True), (9, QUICK, True)]
)
@pytest.mark.parametrize("goes_on", [True, False])
def test_only_a_long_conversation_leaves_the_event_loop(
    size: int, kept: int, beside: bool, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it goes on from, and the items that it names, count in bytes as what is sent does."""
    item = {"type": "message", "id": "msg_1", "role": "user", "content": "x" * kept}
    named = {"input": [{"type": "item_reference", "id": "msg_1"}]}
    body = {"input": "Hi", "previous_response_id": "resp_1"} if goes_on else named
    threads, decoded = [], endpoints._conversation

    def conversation(*about: Any) -> Any:
        threads.append(threading.get_ident())
        return decoded(*about)

    async def main() -> Chat:
        store = ResponseStore()
        items = (("msg_1", json.dumps(item).encode()),)
        await store.put(StoredResponse("resp_1", "", b"{}", items))
        asked = decode_request(json.dumps({"model": "toy", **body}).encode())
        kept_responses = KeptResponses(store, BackgroundResponses(store))
        _, chat = await endpoints.conversation(asked, "", kept_responses, size)
        store.close()
        return chat

    monkeypatch.setattr(endpoints, "_conversation", conversation)
    assert asyncio.run(main()).messages[0].text == "x" * kept
    assert (threads != [threading.get_ident()]) is beside


def test_nothing_is_kept_where_that_is_asked_for(server: openai.OpenAI) -> None:
    whole = server.responses.create(model="toy", input="one", store=False)
    with server.responses.stream(model="toy", input="one", store=False) as stream:
        streamed = stream.get_final_response()
    for made in (whole, streamed):
        assert made.to_dict()["store"] is False
        with pytest.raises(openai.NotFoundError):
            server.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as caught:
            server.responses.create(model="toy", input="x", previous_response_id=made.id)
        assert caught.value.code == "previous_response_not_found"
        assert caught.value.param == "previous_response_id"


def test_one_key_never_reads_what_another_s_has(model: ToyBackend) -> None:
    with (
        keeping(model, keys=("a", "b")) as url,
        client(url, "a") as one,
        client(url, "b") as other,
    ):
        made = one.responses.create(model="toy", input="secret")
        for ask in (
            other.responses.retrieve,
            other.responses.delete,
            other.responses.cancel,
            other.responses.input_items.list,
        ):
            with pytest.raises(openai.NotFoundError):
                ask(made.id)  # type: ignore[operator]
        with pytest.raises(openai.BadRequestError):
            other.responses.create(model="toy", input="x", previous_response_id=made.id)
        reference: Any = {"type": "item_reference", "id": made.output[0].id}
        with pytest.raises(openai.NotFoundError):
            other.responses.create(model="toy", input=[reference])
        assert one.responses.retrieve(made.id).output_text == "Hello there"


def test_a_server_that_keeps_nothing_says_so() -> None:
    with serving(ToyBackend("toy")) as port, client(f"http://127.0.0.1:{port}/v1") as each:
        made = each.responses.create(model="toy", input="Hi")
        assert made.output_text == "Hello there" and made.to_dict()["store"] is False
        for ask in (each.responses.retrieve, each.responses.delete, each.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                ask(made.id)  # type: ignore[operator]
        for asked in ({"background": True}, {"previous_response_id": made.id}):
            with pytest.raises(openai.BadRequestError, match="keeps no responses") as caught:
                each.responses.create(model="toy", input="Hi", **asked)  # type: ignore[call-overload]
            assert caught.value.param in asked


def test_a_refusal_has_its_own_status_and_one_under_way_is_an_event() -> None:
    with (
        keeping(ToyBackend("none", breaks=0), ToyBackend("some", breaks=3)) as url,
        client(url) as c,
    ):
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                c.responses.create(model="none", input="Hi", stream=stream)
            assert caught.value.status_code == 503
        with pytest.raises(openai.InternalServerError):
            c.responses.create(model="some", input="Hi")
        told = events(c.responses.create(model="some", input="Hi", stream=True))
        final = checked(told)
        assert final["error"] == {"code": "server_error", "message": "Toys break."}
        assert told[-2]["type"] == "error"
        assert c.responses.retrieve(final["id"]).status == "failed"


def test_what_is_wrong_is_named_in_openai_s_words(server: openai.OpenAI) -> None:
    image: Any = {"type": "input_image", "image_url": "data:image/png;base64,xx"}
    for fields, param in (
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [image]}]}, "input[0].content[0].image_url"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "background": True, "store": False}, "background"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            server.responses.create(model="toy", **fields)  # type: ignore[call-overload]
        assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    with pytest.raises(openai.NotFoundError) as missing:
        server.responses.create(model="nothing", input="x")
    assert missing.value.code == "model_not_found"


def test_paths_that_are_not_there() -> None:
    with keeping(ToyBackend("toy")) as url:
        port = int(url.split(":")[-1].split("/")[0])
        status, headers, body = post(port, "/v1/responses/resp_1", {})
        assert (status, headers["allow"]) == (405, "DELETE, GET, HEAD")
        assert post(port, "/v1/responses/resp_1/cancel", {})[0] == 404
        assert post(port, "/responses", {"model": "toy", "input": "x"})[0] == 200
        assert json.loads(body)["error"]["code"] == "method_not_allowed"


def test_a_client_that_goes_away_ends_its_answer_and_keeps_nothing() -> None:
    model = GatedBackend("toy", TEXT, beats=True)
    with keeping(model) as url, client(url) as each:
        stream = each.responses.create(model="toy", input="x", stream=True)
        first = next(iter(stream))
        assert first.type == "response.created"
        stream.close()
        assert eventually(lambda: model.closed)
        with pytest.raises(openai.NotFoundError):
            each.responses.retrieve(first.response.id)
