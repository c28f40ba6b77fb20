"""GET /openapi.json and /docs: what the endpoints are, for programs and for people."""

import asyncio
from functools import cached_property
from pathlib import Path

import msgspec

from ...translate.dialect import Framing
from ..framing import FRAMINGS
from ..message import HttpRequest, Response
from ..openapi import Routes, document
from ..routes import Route
from .answers import Generate

HTML = ((b"content-type", b"text/html; charset=utf-8"),)
PAGE = Path(__file__).with_suffix(".html")


class DescribeApi:
    """The OpenAPI document of some routes, made when it is first asked for."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def __call__(self, request: HttpRequest) -> Response:
        return Response(200, await asyncio.to_thread(lambda: self._body))

    @cached_property
    def _body(self) -> bytes:
        streams = {
            path: FRAMINGS[_framing(route)].media_type.decode()
            for (_, path), route in self._routes.items()
            if route.operation is not None and route.operation.pieces
        }
        return msgspec.json.encode(document(self._routes, streams))


def _framing(route: Route) -> Framing:
    return route.handler.dialect.framing if isinstance(route.handler, Generate) else "sse"


async def show_docs(_: HttpRequest) -> Response:
    """Answer with a page that reads /openapi.json; all of it is one file."""
    return Response(200, await asyncio.to_thread(PAGE.read_bytes), HTML)
