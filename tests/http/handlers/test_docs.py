"""GET /openapi.json and /docs, as a browser asks for them."""

import asyncio
import json
import re

from bessemer.http.backends import Backends
from bessemer.http.body import Body
from bessemer.http.endpoints import DIALECTS, endpoints
from bessemer.http.message import HttpRequest, Response
from tests.http import toy


def get(path: str) -> Response:
    routes = endpoints(Backends({}), {**DIALECTS, "/toy": toy.DIALECT})
    request = HttpRequest("GET", path, "", (), Body(), "local", "req")
    response = asyncio.run(_answer(routes["GET", path].handler, request))
    assert isinstance(response, Response)
    assert response.status == 200
    return response


async def _answer(handler: object, request: HttpRequest) -> object:
    return await handler(request)  # type: ignore[operator]


def test_a_stream_has_its_framings_media_type() -> None:
    paths = json.loads(get("/openapi.json").body)["paths"]
    for path, dialect in DIALECTS.items():
        lines = dialect.framing == "ndjson"
        kind = "application/x-ndjson" if lines else "text/event-stream; charset=utf-8"
        content = paths[path]["post"]["responses"]["200"]["content"]
        assert set(content) == {"application/json", kind}
    toys = paths["/toy"]["post"]["responses"]["200"]["content"]
    assert set(toys) == {"application/json", "application/x-ndjson"}
    assert toys["application/x-ndjson"]["itemSchema"]["anyOf"][0]["type"] == "object"
    assert set(paths["/health"]["get"]["responses"]["200"]["content"]) == {"application/json"}


def test_the_page_is_one_file() -> None:
    response = get("/docs")
    assert dict(response.headers)[b"content-type"] == b"text/html; charset=utf-8"
    page = response.body.decode()
    assert 'fetch("openapi.json")' in page
    assert re.findall(r"(?:src|href)=\"([^\"]+)\"", page) == ["openapi.json", "openapi.json"]
