"""The OpenAPI document: what it says of a toy's endpoints, and what schemathesis says of ours."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
)

from bessemer.http.backends import Backends
from bessemer.http.endpoints import endpoints
from bessemer.http.openapi import document
from bessemer.http.routes import Route
from bessemer.translate.errors import OpenAIErrorBody
from bessemer.translate.fields import RequestDecoder, Unbuilt
from bessemer.translate.operation import Operation
from tests.http.running import Server, serving

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
EXAMPLES = pytest.param(3), pytest.param(200, marks=pytest.mark.long)  # of each operation
CRUEL = b'{"messages": [{"role": "user"}], "prompt": {}, "input": [], "query": 1, "text_1": []}'


class Asked(msgspec.Struct):
    """What is asked."""

    text: str
    often: int | None = None
    user: str | None = None


class Said(msgspec.Struct):
    text: str


async def _handler(_: Any) -> Any: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--max-tokens", "3") as running:
        yield running


def test_what_an_operation_becomes() -> None:
    unbuilt = {"loud": Unbuilt("loudness"), "often": Unbuilt("much")}
    decoder = RequestDecoder(Asked, unbuilt, ("user", "shift", "loud", "ttl"))
    operation = Operation(
        summary="Say it",
        request=decoder,
        response=Said,
        pieces=(Said,),
        mark="Over",
        example={"text": "Hm"},
    )
    routes = {
        ("POST", "/v1/say"): Route(_handler, operation=operation),
        ("GET", "/v1/say/{id}"): Route(
            _handler, public=True, operation=Operation(summary="What was said", response=Said)
        ),
        ("DELETE", "/v1/say"): Route(_handler, operation=Operation(summary="Unsay", response=Said)),
        ("POST", "/v1/mean"): Route(
            _handler, operation=Operation(summary="Mean it", request=decoder, response=Said)
        ),
        ("GET", "/v1/hidden"): Route(_handler),
    }
    told = document(routes, {"/v1/say": "text/event-stream"})
    assert set(told["paths"]) == {"/v1/say", "/v1/say/{id}", "/v1/mean"}
    names = [each["operationId"] for path in told["paths"].values() for each in path.values()]
    assert names == ["v1_say", "delete_v1_say", "v1_say_id", "v1_mean"]
    plain, deleted = told["paths"]["/v1/mean"]["post"], told["paths"]["/v1/say"]["delete"]
    assert [*plain["requestBody"]["content"]["application/json"]] == ["schema"], "no example"
    for entry in (plain, deleted):  # neither is a stream
        assert [*entry["responses"]["200"]["content"]] == ["application/json"]
    post = told["paths"]["/v1/say"]["post"]
    assert post["summary"] == "Say it"
    assert "security" not in post
    assert told["security"] == [{}, {"bearer": []}, {"key": []}]
    body = post["requestBody"]["content"]["application/json"]
    assert body["example"] == {"text": "Hm"}
    name = body["schema"]["$ref"].rpartition("/")[2]
    assert told["components"]["schemas"][name]["required"] == ["text"]
    assert "Refused by name: loud.\n" in post["description"]  # not `often`, which is honoured
    ignored = post["description"].rpartition("ignored: ")[2].removesuffix(".").split(", ")
    assert ignored == ["shift", "ttl"]  # not `user`, which is honoured
    content = post["responses"]["200"]["content"]
    assert content["application/json"]["schema"]["$ref"].endswith("Said")
    data = content["text/event-stream"]["itemSchema"]["properties"]["data"]
    assert data["anyOf"][0]["contentSchema"]["anyOf"][0]["$ref"].endswith("Said")
    assert data["anyOf"][1] == {"const": "Over"}
    errors = post["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
    assert errors.endswith(OpenAIErrorBody.__name__)
    get = told["paths"]["/v1/say/{id}"]["get"]
    assert get["security"] == []
    assert [each["name"] for each in get["parameters"]] == ["id"]
    assert "requestBody" not in get
    assert json.loads(msgspec.json.encode(told)) == told


def test_every_endpoint_is_described(server: Server) -> None:
    status, told, _ = server.ask("GET", "/openapi.json")
    assert status == 200
    described = {(m.upper(), path) for path, methods in told["paths"].items() for m in methods}
    undescribed = endpoints(Backends({})).keys() - described
    assert undescribed == {("GET", "/openapi.json"), ("GET", "/docs")}
    for (_, path), route in endpoints(Backends({})).items():
        if route.operation is not None and route.operation.request is not None:
            example = told["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            status, answer, _ = server.ask("POST", path, example["example"])
            error = answer.get("error")
            why = error["code"] if isinstance(error, dict) else error
            assert status == 200 or why == "unsupported_model" or "nothing else" in why, (path, why)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_schemathesis_finds_no_error_of_the_servers(server: Server, examples: int) -> None:
    _, told, _ = server.ask("GET", "/openapi.json")
    schema = schemathesis.openapi.from_dict(told)
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]

        @given(case=operation.as_strategy())
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        )
        def conforms(case: Any) -> None:
            case.call_and_validate(base_url=server.url, checks=CHECKS)

        conforms()
        status, answer, _ = server.ask(operation.method, operation.path, CRUEL)
        assert status < 500, answer
