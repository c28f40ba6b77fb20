"""The listing of models, which the official packages read, and one model of it."""

import asyncio
import json

import anthropic
import openai
import pytest

from bessemer.engine.request import Refusal
from bessemer.http.backends import Backends
from bessemer.http.body import Body
from bessemer.http.handlers.models import GetModel, ListModels
from bessemer.http.message import HttpRequest
from tests.http.toy import ToyBackend

BACKENDS = Backends({name: ToyBackend(name, created=86_400) for name in ("org/b", "a")})


def request(path: str) -> HttpRequest:
    return HttpRequest("GET", path, "", (), Body(), "192.0.2.7", "req_1")


def test_the_list_is_sorted_and_both_packages_read_it() -> None:
    body = json.loads(asyncio.run(ListModels(BACKENDS)(request("/v1/models"))).body)
    assert (body["object"], body["first_id"], body["last_id"]) == ("list", "a", "org/b")
    assert body["has_more"] is False and [each["id"] for each in body["data"]] == ["a", "org/b"]
    for each in body["data"]:
        theirs = openai.types.Model.model_validate(each, strict=True)
        assert (theirs.id, theirs.created, theirs.owned_by) == (each["id"], 86_400, "local")
        other = anthropic.types.ModelInfo.construct(**each)  # as the package itself reads it
        assert (other.display_name, other.type) == (each["id"], "model")
        assert other.created_at.isoformat() == "1970-01-02T00:00:00+00:00"
        assert each["context_window"] == each["max_model_len"] == 99 and each["loaded"] is True


def test_a_server_without_models_has_an_empty_list() -> None:
    body = json.loads(asyncio.run(ListModels(Backends({}))(request("/v1/models"))).body)
    assert (body["data"], body["first_id"], body["last_id"]) == ([], None, None)


@pytest.mark.parametrize("path", ["/v1/models/org/b", "/models/org%2Fb", "/v1/models/B"])
def test_one_model_by_any_spelling(path: str) -> None:
    body = json.loads(asyncio.run(GetModel(BACKENDS)(request(path))).body)
    assert (body["id"], body["created_at"]) == ("org/b", "1970-01-02T00:00:00Z")


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refusal, match=r"'none/such'.*: a, org/b") as caught:
        asyncio.run(GetModel(BACKENDS)(request("/v1/models/none/such")))
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
