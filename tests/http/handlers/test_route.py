"""POST /v1/route: the decision that a request would meet, which nobody answers."""

import asyncio
import json
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.backends import Backends
from bessemer.http.body import Body
from bessemer.http.gateway.auto_router import LEGIBLE
from bessemer.http.gateway.gateway import Gateway
from bessemer.http.gateway.routing import Router
from bessemer.http.gateway.schema import ConfigTables
from bessemer.http.handlers.route import ExplainRoute
from bessemer.http.message import HttpRequest
from tests.http.gateway.auto_reader_double import ScriptedReader, overlap
from tests.http.gateway.test_auto_router import ROUTES, router


def explained(model: str, text: str) -> Any:
    reader = ScriptedReader(overlap, LEGIBLE)
    names: Any = {"first": object()}
    gateway = Gateway(Router(ConfigTables(routes=ROUTES), names), auto=router(reader))
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    encoded = Body(json.dumps(body).encode())
    request = HttpRequest("POST", "/v1/route", "", (), encoded, "", "", "me")
    reply = asyncio.run(ExplainRoute(Backends(names, gateway))(request))
    return json.loads(reply.body)


def test_the_decision_and_its_steps() -> None:
    told = explained("auto", "123")
    assert (told["by"], told["targets"]) == ("auto numbers", ["local/n"])
    assert "log likelihoods" in told["steps"][0] and len(told["steps"]) == 2
    assert explained("first", "123")["by"] == "local"


def test_a_name_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        explained("never", "123")
    assert caught.value.status == 404
