"""The endpoints of OpenAI's responses: one is made, and those that are kept are asked for."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw, Struct

from ...engine.request import Refusal
from ...translate.chat import Chat, Event, Failure
from ...translate.decode import invalid, shown
from ...translate.openai_responses import ResponseWriter
from ...translate.openai_responses_body import (
    PREFIX,
    Piece,
    ResponseBody,
    encode_json,
    output_items,
)
from ...translate.openai_responses_request import (
    DECODER,
    DecodedRequest,
    decode_request,
    stored_items,
)
from ...translate.operation import Operation
from ..auth import KEYED
from ..backends import Backends
from ..handlers.answers import QUICK, answering, counted_by, decode_body, identity, notes, on_behalf
from ..message import JSON, HttpRequest, Reply, Response, StreamingResponse
from ..routes import Route, rest
from .background import Events, RunningResponse, framed
from .keeping import KeptResponses
from .store import ResponseStore, StoredResponse

AsyncBytes = AsyncGenerator[bytes, None]

PATH = "/v1/responses"
STREAM = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
PAGE, LONGEST_PAGE = 20, 100  # items of a list
NUMBER = re.compile(r"[0-9]{1,10}")


class Deleted(Struct):
    id: str
    object: str = "response"
    deleted: bool = True


class ItemList(Struct):
    data: list[Raw]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


class InputTokens(Struct):
    input_tokens: int
    object: str = "response.input_tokens"


class StoredItem(Struct):
    id: str


CREATE = Operation(
    summary="Answer what is said, as OpenAI's Responses API does",
    request=DECODER,
    response=ResponseBody,
    pieces=(Piece,),
    example={"input": "Hello!", "max_output_tokens": 64},
)
COUNT = Operation(
    summary="Count the tokens that a response's prompt would have",
    request=DECODER,
    response=InputTokens,
    example={"input": "Hello!"},
)
GET = Operation(summary="Read a response that is kept", response=ResponseBody)
DELETE = Operation(summary="Delete a response that is kept", response=Deleted)
CANCEL = Operation(summary="Cancel a response in the background", response=ResponseBody)
LIST = Operation(summary="List what a response was asked with", response=ItemList)


def response_routes(
    backends: Backends, kept: KeptResponses | None
) -> Mapping[tuple[str, str], Route]:
    """Return the routes; without `kept` no response can be asked for again."""
    about, one = (backends, kept), f"{PATH}/{{id}}"
    return {
        ("POST", PATH): Route(CreateResponse(*about), operation=CREATE),
        ("POST", f"{PATH}/input_tokens"): Route(CountInput(*about), operation=COUNT),
        ("GET", one): Route(GetResponse(kept), operation=GET),
        ("DELETE", one): Route(DeleteResponse(kept), operation=DELETE),
        ("POST", f"{one}/cancel"): Route(CancelResponse(kept), operation=CANCEL),
        ("GET", f"{one}/input_items"): Route(ListInputItems(kept), operation=LIST),
    }


@dataclass(frozen=True, slots=True)
class CreateResponse:
    """POST what is said, get a response: whole, streamed, or made in the background."""

    backends: Backends
    kept: KeptResponses | None

    async def __call__(self, request: HttpRequest) -> Reply:
        size, owner = len(request.body), owner_of(request)
        asked = await decode_body(decode_request, request.body)
        backend = self.backends.find(asked.fields.model or "", request.meant)
        asked, chat = await conversation(asked, owner, self.kept, size)
        events = answering(backend, chat, request)
        stored = asked.stored and self.kept is not None
        who = identity(PREFIX, backend)
        writer = ResponseWriter(asked, who, stored, time.time)
        record = StoredResponse(who.id, owner, b"", previous=asked.fields.previous_response_id)
        if asked.fields.background:
            request.body.drop()
            return await self._background(asked, record, writer, events, size)
        first = await anext(events)  # what is refused before it still has its own status
        request.body.drop()
        answer = _Answer(asked, writer, record, self.kept.store if stored and self.kept else None)
        if asked.stream:
            chunks = answer.chunks(first, events)
            return StreamingResponse(chunks, 200, (*STREAM, *notes(first)), answer.failure)
        return Response(200, await answer.whole(first, events), (*JSON, *notes(first)))

    async def _background(
        self,
        asked: DecodedRequest,
        record: StoredResponse,
        writer: ResponseWriter,
        events: Events,
        size: int,
    ) -> Reply:
        if self.kept is None:
            problem = "cannot be had: this server keeps no responses (--responses-store)"
            raise invalid("background", problem)
        if not asked.stored:
            raise invalid("background", "needs store to be true")
        record = replace(record, input=stored_items(asked), background=True)
        running = RunningResponse(record, writer, asked.stream)
        body = running.body
        await self.kept.background.start(running, events, size)
        if asked.stream:
            return StreamingResponse(running.follow(-1), 200, STREAM)
        return Response(200, body)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer whose client waits for it, and which is kept in a store, if there is one."""

    asked: DecodedRequest
    writer: ResponseWriter
    record: StoredResponse
    store: ResponseStore | None

    async def chunks(self, first: Event, events: Events) -> AsyncBytes:
        """Yield the events of a stream; what is kept is so before its client is told the end."""
        writer = self.writer
        async with aclosing(events):
            if pieces := writer.add(first):
                yield b"".join(map(framed, pieces))
            try:
                async for event in events:
                    pieces = writer.add(event)
                    if writer.over:
                        await self._keep()
                    if pieces:
                        yield b"".join(map(framed, pieces))
            except Refusal as refusal:
                pieces = writer.add(Failure(refusal))
                await self._keep()
                yield b"".join(map(framed, pieces))

    def failure(self, refusal: Refusal) -> bytes:
        return b"".join(map(framed, self.writer.add(Failure(refusal))))

    async def whole(self, first: Event, events: Events) -> bytes:
        """Return the body. Raises Refusal."""
        writer = self.writer
        async with aclosing(events):  # what it keeps counts until it is encoded
            writer.add(first)
            async for event in events:
                writer.add(event)
            await self._keep()
            return encode_json(writer.body)

    async def _keep(self) -> None:
        if self.store is not None:
            body = self.writer.body
            more = encode_json(body), stored_items(self.asked), output_items(body)
            await self.store.put(replace(self.record, body=more[0], input=more[1], output=more[2]))


@dataclass(frozen=True, slots=True)
class CountInput:
    """POST what would be said, get the length of its prompt as the model would see it."""

    backends: Backends
    kept: KeptResponses | None

    async def __call__(self, request: HttpRequest) -> Reply:
        size = len(request.body)
        asked = await decode_body(decode_request, request.body)
        _, chat = await conversation(asked, owner_of(request), self.kept, size)
        tokens = await self.backends.find(chat.model, request.meant).count(on_behalf(chat, request))
        return Response(200, encode_json(InputTokens(int(tokens))), (*JSON, *counted_by(tokens)))


@dataclass(frozen=True, slots=True)
class GetResponse:
    """GET a response as it stands, or the events of one that is made in the background."""

    kept: KeptResponses | None

    async def __call__(self, request: HttpRequest) -> Reply:
        id, query = rest(request, PATH), parse_qs(request.query)
        if self.kept is None:
            raise not_found(id)
        running = self.kept.background.find(owner_of(request), id)
        streams = _flag(query, "stream")
        after = _number(query, "starting_after", -1)
        if running is not None and not streams:
            return Response(200, running.body)
        if running is not None and running.streams:
            return StreamingResponse(running.follow(after), 200, STREAM)
        stored = await self.kept.store.get(owner_of(request), id)
        if stored is None:
            raise not_found(id)
        if not streams:
            return Response(200, stored.body)
        if running is not None or stored.events is None:
            problem = "can be asked for only of a response made with background and stream"
            raise invalid("stream", problem)
        return StreamingResponse(_replayed(stored.events, after), 200, STREAM)


@dataclass(frozen=True, slots=True)
class DeleteResponse:
    """DELETE a response, which is cancelled first if it is still being made."""

    kept: KeptResponses | None

    async def __call__(self, request: HttpRequest) -> Reply:
        id, owner = rest(request, PATH), owner_of(request)
        if self.kept is None:
            raise not_found(id)
        if running := self.kept.background.find(owner, id):
            await self.kept.background.cancel(running)
        if not await self.kept.store.delete(owner, id):
            raise not_found(id)
        return Response(200, encode_json(Deleted(id)))


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """POST to end a response that is made in the background; one that is over stays as it is."""

    kept: KeptResponses | None

    async def __call__(self, request: HttpRequest) -> Reply:
        id, owner = rest(request, PATH, "/cancel"), owner_of(request)
        if self.kept is None:
            raise not_found(id)
        if running := self.kept.background.find(owner, id):
            await self.kept.background.cancel(running)
        stored = await self.kept.store.get(owner, id)
        if stored is None:
            raise not_found(id)
        if not stored.background:
            message = f"The response {shown(id)} is not made in the background: close its stream."
            raise Refusal(400, "not_background", message)
        return Response(200, stored.body)


@dataclass(frozen=True, slots=True)
class ListInputItems:
    """GET the items that a response was asked with, in pages."""

    kept: KeptResponses | None

    async def __call__(self, request: HttpRequest) -> Reply:
        id, owner = rest(request, PATH, "/input_items"), owner_of(request)
        if self.kept is None or await self.kept.store.get(owner, id) is None:
            raise not_found(id)
        items = await self.kept.store.input(owner, id)
        return Response(200, encode_json(_page(items, parse_qs(request.query))))


async def conversation(
    asked: DecodedRequest, owner: str, kept: KeptResponses | None, size: int
) -> tuple[DecodedRequest, Chat]:
    """Return the request with what it goes on from, and the conversation. Raises Refusal."""
    history, found = list[bytes](), dict[str, bytes]()
    if previous := asked.fields.previous_response_id:
        history = await _history(previous, owner, kept)
    if kept is not None and asked.references:
        found = await kept.store.items(owner, asked.references)
    if size + sum(map(len, (*history, *found.values()))) < QUICK:
        return _conversation(asked, history, found)
    return await asyncio.to_thread(_conversation, asked, history, found)


def _conversation(
    asked: DecodedRequest, history: list[bytes], found: Mapping[str, bytes]
) -> tuple[DecodedRequest, Chat]:
    asked = asked.resolved(history, found)
    return asked, asked.chat()


async def _history(previous: str, owner: str, kept: KeptResponses | None) -> list[bytes]:
    reason = "this server keeps no responses (--responses-store)"
    if kept is not None:
        if kept.background.find(owner, previous) is not None:
            raise invalid("previous_response_id", f"{shown(previous)} is still being made")
        history = await kept.store.history(owner, previous)
        if history is not None:
            return history
        reason = "it, or one that it goes on from, is not kept here (any more)"
    message = f"There is no response {shown(previous)} to go on from: {reason}."
    raise Refusal(400, "previous_response_not_found", message, "previous_response_id")


async def _replayed(events: bytes, after: int) -> AsyncBytes:
    """Yield the events of a response that is over, behind the one of this number."""
    frames = events.split(b"\n\n")[after + 1 : -1]
    if frames:
        yield b"\n\n".join([*frames, b""])


def owner_of(request: HttpRequest) -> str:
    """Return whose a response is: a key's, or everybody's where no key is asked for."""
    return request.caller if request.caller.startswith(KEYED) else ""


def not_found(id: str) -> Refusal:
    return Refusal(404, "not_found", f"There is no response {shown(id)} here.")


def _page(items: list[bytes], query: Mapping[str, list[str]]) -> ItemList:
    limit = _number(query, "limit", PAGE, 1, LONGEST_PAGE)
    order = query.get("order", ["desc"])[-1]
    if order not in ("asc", "desc"):
        raise invalid("order", f"must be asc or desc, not {shown(order)}")
    ids = [msgspec.json.decode(item, type=StoredItem).id for item in items]
    each = [*zip(ids, items, strict=True)][:: 1 if order == "asc" else -1]
    if after := query.get("after", [""])[-1]:
        if after not in ids:
            raise invalid("after", f"names {shown(after)}, which is none of the items")
        each = each[[id for id, _ in each].index(after) + 1 :]
    page = each[:limit]
    first, last = (page[0][0], page[-1][0]) if page else (None, None)
    return ItemList([Raw(item) for _, item in page], first, last, len(each) > limit)


def _flag(query: Mapping[str, list[str]], name: str) -> bool:
    text = query.get(name, ["false"])[-1].lower()
    if text not in ("true", "1", "false", "0"):
        raise invalid(name, "must be true or false")
    return text in ("true", "1")


def _number(
    query: Mapping[str, list[str]], name: str, default: int, low: int = 0, high: int = 2**31
) -> int:
    text = query.get(name, [str(default)])[-1]
    if name in query and not (NUMBER.fullmatch(text) and low <= int(text) <= high):
        raise invalid(name, f"must be a whole number from {low} to {high}")
    return int(text)
