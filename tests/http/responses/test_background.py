"""Responses made in the background: polled, followed, resumed, cancelled, bounded, interrupted."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from bessemer.engine.request import Refusal
from bessemer.http.responses import background
from bessemer.http.responses.background import BackgroundResponses, RunningResponse
from bessemer.http.responses.store import ResponseStore, StoredResponse
from bessemer.translate.chat import Event, Identity
from bessemer.translate.openai_responses import ResponseWriter
from bessemer.translate.openai_responses_request import decode_request
from tests.http.responses.gated import GatedBackend, client, keeping
from tests.http.running import eventually
from tests.http.toy import TEXT, ToyBackend
from tests.translate.responses_stream import checked


@contextmanager
def gated(model: ToyBackend | None = None, **about: Any) -> Iterator[tuple[Any, openai.OpenAI]]:
    model = model or GatedBackend("toy", **about)
    with keeping(model) as url, client(url) as each:
        yield model, each
        if isinstance(model, GatedBackend):
            model.gate.set()


def ended(server: openai.OpenAI, id: str) -> str:
    """Return the status that a response has in the end."""
    over = ("completed", "failed", "cancelled", "incomplete")
    assert eventually(lambda: server.responses.retrieve(id).status in over)
    return str(server.responses.retrieve(id).status)


def test_a_response_is_polled_until_it_is_whole() -> None:
    with gated() as (model, server):
        made = server.responses.create(model="toy", input="Hi", background=True)
        assert (made.status, made.background, made.output) == ("queued", True, [])
        assert eventually(lambda: server.responses.retrieve(made.id).status == "in_progress")
        with pytest.raises(openai.BadRequestError, match="still being made"):
            server.responses.create(model="toy", input="x", previous_response_id=made.id)
        model.gate.set()
        assert ended(server, made.id) == "completed"
        whole = server.responses.retrieve(made.id)
        assert whole.output_text == "Hello there" and whole.usage
        again = server.responses.create(model="toy", input="x", previous_response_id=made.id)
        assert again.status == "completed"
        assert len(server.responses.input_items.list(made.id).data) == 1


def test_a_stream_goes_on_without_its_client_and_is_resumed_where_that_left_it() -> None:
    with gated() as (model, server):
        stream = server.responses.create(model="toy", input="Hi", background=True, stream=True)
        told = [next(stream).to_dict() for _ in range(5)]
        stream.close()
        assert [event["type"] for event in told][:3] == [
            "response.created", "response.queued", "response.in_progress",
        ]  # fmt: skip
        id: str = told[0]["response"]["id"]  # type: ignore[index, assignment]
        rest = server.responses.retrieve(id, stream=True, starting_after=4)
        model.gate.set()
        told += [event.to_dict() for event in rest]
        assert checked(told)["status"] == "completed"
        for after in (None, 0, 7, len(told) - 2):
            about: Any = {} if after is None else {"starting_after": after}
            replay = server.responses.retrieve(id, stream=True, **about)
            assert [e.to_dict() for e in replay] == told[0 if after is None else after + 1 :]
        assert [*server.responses.retrieve(id, stream=True, starting_after=len(told) - 1)] == []


def test_only_a_streamed_one_is_resumed() -> None:
    with gated() as (model, server):
        made = server.responses.create(model="toy", input="Hi", background=True)
        for over in (False, True):
            if over:
                model.gate.set()
                ended(server, made.id)
            with pytest.raises(openai.BadRequestError) as caught:
                server.responses.retrieve(made.id, stream=True)
            assert caught.value.param == "stream"


def test_a_response_is_cancelled_and_its_model_does_no_more() -> None:
    with gated() as (model, server):
        made = server.responses.create(model="toy", input="Hi", background=True)
        assert eventually(lambda: server.responses.retrieve(made.id).status == "in_progress")
        cancelled = server.responses.cancel(made.id)
        assert (cancelled.status, cancelled.id) == ("cancelled", made.id) and model.closed == 1
        assert server.responses.retrieve(made.id).to_dict() == cancelled.to_dict()
        assert server.responses.cancel(made.id).status == "cancelled"  # once more is no mistake
        model.gate.set()
        whole = server.responses.create(model="toy", input="Hi", background=True)
        ended(server, whole.id)
        assert server.responses.cancel(whole.id).status == "completed"
        direct = server.responses.create(model="toy", input="Hi")
        with pytest.raises(openai.BadRequestError, match="not made in the background"):
            server.responses.cancel(direct.id)


def test_who_follows_a_cancelled_response_hears_of_it() -> None:
    with gated() as (_, server):
        stream = server.responses.create(model="toy", input="Hi", background=True, stream=True)
        first = next(stream)
        assert first.type == "response.created"
        server.responses.cancel(first.response.id)
        rest = [event.to_dict() for event in stream]
        assert (rest[-1]["type"], rest[-1]["code"]) == ("error", "cancelled")


def test_a_deleted_response_is_not_made_on() -> None:
    with gated() as (model, server):
        made = server.responses.create(model="toy", input="Hi", background=True)
        server.responses.delete(made.id)
        assert model.closed == len(model.requests)
        with pytest.raises(openai.NotFoundError):
            server.responses.retrieve(made.id)


def test_what_its_model_refuses_failed() -> None:
    with gated(ToyBackend("toy", breaks=2)) as (_, server):
        made = server.responses.create(model="toy", input="Hi", background=True)
        assert ended(server, made.id) == "failed"
        error = server.responses.retrieve(made.id).error
        assert error and (error.code, error.message) == ("server_error", "Toys break.")


def test_there_are_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RUNNING", 2)
    monkeypatch.setattr(background, "BODIES", 3000)
    with gated() as (model, server):
        made = [server.responses.create(model="toy", input="Hi", background=True) for _ in "12"]
        with pytest.raises(openai.InternalServerError, match="Too many") as caught:
            server.responses.create(model="toy", input="Hi", background=True)
        assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
        model.gate.set()
        for each in made:
            ended(server, each.id)
        with pytest.raises(openai.InternalServerError, match="Too many"):
            server.responses.create(model="toy", input="x" * 4000, background=True)
        for _ in range(4):  # what is over does not count
            last = server.responses.create(model="toy", input="x" * 2000, background=True)
            assert ended(server, last.id) == "completed"


def test_bodies_may_take_all_the_bytes_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "BODIES", 10)

    async def main() -> None:
        store = ResponseStore()
        responses = BackgroundResponses(store)
        for id in ("a", "b"):
            await responses.start(running(id), said(TEXT[:2]), 5)
        with pytest.raises(Refusal, match="Too many"):
            await responses.start(running("c"), said(TEXT[:2]), 1)
        await responses.close()
        store.close()

    asyncio.run(main())


def test_what_is_kept_for_clients_to_come_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LOGS", 4000)
    long = (*TEXT[:2], *([TEXT[2]] * 40), *TEXT[3:])
    with gated(ToyBackend("toy", long)) as (_, server):
        for stream, status in ((True, "failed"), (False, "completed"), (True, "failed")):
            made = server.responses.create(model="toy", input="x", background=True, stream=stream)
            id = next(made).response.id if stream else made.id  # type: ignore[call-overload, union-attr]
            assert ended(server, id) == status


def running(id: str = "resp_1") -> RunningResponse:
    asked = decode_request(b'{"model":"toy","input":"Hi","background":true,"stream":true}')
    writer = ResponseWriter(asked, Identity(id, 1, "toy"), True, time.time)
    return RunningResponse(StoredResponse(id, "", b"", background=True), writer, True)


async def said(events: tuple[Event, ...], fault: Exception | None = None) -> AsyncGenerator[Event]:
    for event in events:
        yield event
    if fault is not None:
        raise fault
    await asyncio.Event().wait()


def scenario(**about: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a response as it is kept, and its stream, of a server that ends before it is whole."""

    async def main() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        store = ResponseStore()
        responses, one = BackgroundResponses(store), running()
        await responses.start(one, said(TEXT[:3], **about), 9)
        follower = asyncio.create_task(anext(one.follow(-1)))
        await follower
        await responses.close()
        kept = await store.get("", "resp_1")
        assert kept is not None and kept.events is not None and not kept.running
        assert responses.find("", "resp_1") is None
        stream = b"".join([piece async for piece in one.follow(-1)])
        assert stream == kept.events
        store.close()
        frames = [frame.split(b"data: ")[1] for frame in stream.split(b"\n\n")[:-1]]
        return json.loads(kept.body), [json.loads(frame) for frame in frames]

    loop_errors: list[Any] = []

    async def whole() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: loop_errors.append(about))
        return await main()

    result = asyncio.run(whole())
    assert bool(loop_errors) <= isinstance(about.get("fault"), ZeroDivisionError)
    return result


def test_a_server_that_ends_says_so_of_what_is_not_whole() -> None:
    body, stream = scenario()
    assert body["status"] == "failed" and "shutting down" in body["error"]["message"]
    assert checked(stream)["status"] == "failed"
    assert body["output"][1]["content"][0]["text"] == "Hello "


def test_a_fault_of_ours_fails_the_response_and_tells_nobody_what_it_was() -> None:
    body, stream = scenario(fault=ZeroDivisionError("secret"))
    assert (body["status"], body["error"]["message"]) == ("failed", "Internal server error.")
    assert "secret" not in json.dumps([body, stream])
    assert [each["code"] for each in stream if each["type"] == "error"] == ["internal_error"]
    body, _ = scenario(fault=Refusal(503, "overloaded", "No."))
    assert body["error"]["message"] == "No."


def test_a_response_belongs_to_who_asked_for_it() -> None:
    async def main() -> None:
        store = ResponseStore()
        responses, one = BackgroundResponses(store), running()
        await responses.start(one, said(TEXT), 9)
        assert responses.find("", "resp_1") is one
        assert responses.find("key:a", "resp_1") is None
        await responses.close()
        store.close()

    asyncio.run(main())
