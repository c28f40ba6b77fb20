"""Lists of providers' models: asked in each format, kept, and done without where nobody tells."""

import asyncio
import io
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from bessemer.http.backends import Backends
from bessemer.http.gateway.catalog import AGAIN, FRESH, Catalog
from bessemer.http.gateway.gateway import Gateway
from bessemer.http.gateway.remote import Remote
from bessemer.http.handlers.models import ListModels
from bessemer.http.log import Log
from bessemer.translate.upstream.upstream import Format
from tests.http.gateway.fake import Asked, Script, Wire, provider
from tests.http.gateway.plain import remote
from tests.http.toy import ToyBackend

OPENAI = {
    "object": "list",
    "data": [{"id": "gpt", "object": "model"}, {"id": "o/x"}, {"id": "gpt"}],
}
LISTS: list[tuple[Format, str, Any, tuple[str, ...]]] = [
    ("openai", "/v1/models", OPENAI, ("gpt", "o/x")),
    ("responses", "/v1/models", OPENAI, ("gpt", "o/x")),
    (
        "anthropic",
        "/v1/models?limit=1000",
        {"data": [{"id": "claude", "type": "model", "display_name": "C"}], "has_more": False},
        ("claude",),
    ),
    (
        "ollama",
        "/api/tags",
        {"models": [{"name": "q:1b", "model": "q:1b", "size": 5}]},
        ("q:1b",),
    ),
]


def catalog(
    script: Script,
    work: Callable[[Catalog, list[float]], Any],
    format: Format = "openai",
    **about: Any,
) -> tuple[list[Asked], str]:
    """Do some work with the catalog of one provider, `far`; return what was asked and logged."""
    written, now = io.BytesIO(), [1000.0]

    async def run(way: Remote) -> None:
        each = Catalog({"far": way}, log, lambda: now[0])
        await work(each, now)
        each.close()
        await way.client.aclose()

    with provider(script) as fake, Log("info", written) as log:
        asyncio.run(run(remote(fake.url, format, **about).remote))
        return fake.asked, (log.close() or written.getvalue()).decode()


@pytest.mark.parametrize(("format", "path", "body", "names"), LISTS)
def test_models_are_listed_in_each_format(
    format: Format, path: str, body: Any, names: tuple[str, ...]
) -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(json.dumps(body).encode())

    async def work(each: Catalog, now: list[float]) -> None:
        listed = each.listed
        assert listed == {"far": ()}
        await asyncio.gather(each.refresh(), each.refresh())
        assert listed == {"far": names}
        now[0] += FRESH - 1
        await each.refresh()

    asked, said = catalog(script, work, format, api_key="secret")
    assert [(each.method, each.target) for each in asked] == [("GET", path)] and not said
    assert "secret" in "".join(asked[0].lines)


def test_a_list_is_asked_for_anew_and_kept_while_nobody_tells() -> None:
    answers = [b'{"data": [{"id": "a"}]}', b"<html>", b'{"data": 7}', b'{"data": [{"id": "b"}]}']

    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(answers.pop(0))

    async def work(each: Catalog, now: list[float]) -> None:
        seen = []
        for wait in (0, FRESH, AGAIN - 1, 1, AGAIN, 1):
            now[0] += wait
            await each.refresh()
            seen.append(each.listed["far"])
        assert seen == [("a",)] * 4 + [("b",)] * 2

    asked, said = catalog(script, work)
    assert len(asked) == 4
    assert said.count("warning: no list of models from far") == 2 and "'far'" in said


def test_models_of_settings_are_not_asked_for() -> None:
    async def work(each: Catalog, now: list[float]) -> None:
        await each.refresh()
        assert each.listed == {"far": ("mine",)}

    asked, _ = catalog(lambda asked, wire: None, work, models=("mine",))
    assert not asked


def test_nobody_waits_long_for_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.http.gateway.catalog.PATIENCE", 0.01)
    go_on = threading.Event()

    def script(asked: Asked, wire: Wire) -> None:
        assert go_on.wait(20)
        wire.answer(b'{"data": [{"id": "a"}]}')

    async def work(each: Catalog, now: list[float]) -> None:
        await each.refresh()
        assert each.listed == {"far": ()}
        go_on.set()
        while not each.listed["far"]:
            await each.refresh()

    asked, _ = catalog(script, work)
    assert len(asked) == 1


def test_the_server_s_list_has_them_with_their_owner() -> None:
    def script(asked: Asked, wire: Wire) -> None:
        wire.answer(b'{"data": [{"id": "gpt"}]}')

    async def run(way: Remote, log: Log) -> Any:
        backends = Backends({"toy": ToyBackend("toy")})
        each = Catalog({"far": way}, log)
        object.__setattr__(backends, "gateway", Gateway(backends.gateway.router, catalog=each))
        reply = await ListModels(backends)(None)  # type: ignore[arg-type]
        await way.client.aclose()
        return msgspec.json.decode(reply.body)

    with ExitStack() as stack:
        fake = stack.enter_context(provider(script))
        log = stack.enter_context(Log("info", io.BytesIO()))
        listed = asyncio.run(run(remote(fake.url).remote, log))
    assert [(each["id"], each["owned_by"]) for each in listed["data"]] == [
        ("far/gpt", "far"),
        ("toy", "local"),
    ]
    assert listed["data"][0]["created_at"] == "1970-01-01T00:00:00Z"
