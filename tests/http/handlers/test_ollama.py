"""Tests of Ollama's lists: of models whose files are read, and of those of which nobody knows."""

import asyncio
import json
from typing import Any

import ollama
import pytest

from bessemer.engine.memory import Plan
from bessemer.engine.request import Refusal
from bessemer.http.about import About
from bessemer.http.backends import Backends, Status, Traits
from bessemer.http.body import Body
from bessemer.http.handlers.ollama import ListRunning, ListTags, ShowModel, tagged, tell_version
from bessemer.http.message import HttpRequest
from tests.http.toy import ToyBackend

FILES = About(
    "gguf", "llama", "Q4_1", 134_515_008, 90, "abc", 1.5e9, "known.gguf", {"block_count": 3}
)
PLAN = Plan(budget=999, weights=40, working=5, page=10, pages=2, context=99, program=7)


class Loaded(ToyBackend):
    def status(self) -> Status:
        return Status("ready", 99, "llama", PLAN)


def ask(handler: Any, **fields: Any) -> Any:
    body = Body(json.dumps(fields).encode())
    reply = asyncio.run(handler(HttpRequest("POST", "/", "", (), body, "", "id")))
    assert reply.status == 200
    return json.loads(reply.body)


def backends() -> Backends:
    traits = Traits(("completion", "tools"), "{{ messages }}")
    known = Loaded("org/known", about=FILES, traits=traits)
    return Backends({"org/known": known, "new:q8": ToyBackend("new:q8")})


def test_all_models_are_listed_and_those_loaded_with_their_memory() -> None:
    known, new = ollama.ListResponse.model_validate(ask(ListTags(backends()))).models
    assert (known.model, known.size, known.digest) == ("org/known:latest", 90, "abc")
    assert known.modified_at and known.modified_at.timestamp() == 1.5e9
    assert known.details and known.details.parameter_size == "134.52M"
    assert (known.details.family, known.details.families) == ("llama", ["llama"])
    assert known.details.quantization_level == "Q4_1"
    assert (new.model, new.size, new.digest) == ("new:q8", 0, "")
    (running,) = ollama.ProcessResponse.model_validate(ask(ListRunning(backends()))).models
    assert (running.name, running.size, running.context_length) == ("org/known:latest", 72, 99)
    assert running.size_vram in (0, 72) and running.expires_at and running.expires_at.year == 9999


def test_what_a_model_is() -> None:
    show = ShowModel(backends())
    shown = ollama.ShowResponse.model_validate(ask(show, model="known"))
    assert shown.capabilities == ["completion", "tools"] and shown.template == "{{ messages }}"
    assert shown.modelinfo == {
        "general.architecture": "llama",
        "general.basename": "org/known",
        "general.parameter_count": 134_515_008,
        "general.file_type": "Q4_1",
        "llama.block_count": 3,
        "llama.context_length": 99,
    }
    assert ask(show, name="known") == ask(show, model="known:latest")  # the older name of the field
    assert ask(show, model="new")["details"]["families"] == []
    for wrong, status in (({}, 400), ({"model": "absent"}, 404), ({"model": 3}, 400)):
        with pytest.raises(Refusal) as caught:
            ask(show, **wrong)
        assert caught.value.status == status


def test_names_have_tags() -> None:
    assert [*map(tagged, ("a", "a:b", "x:1/a", "x:1/a:b"))] == [
        "a:latest", "a:b", "x:1/a:latest", "x:1/a:b",
    ]  # fmt: skip


def test_the_version_is_one_that_editors_take() -> None:
    version = ask(tell_version)["version"]
    assert tuple(map(int, version.split("."))) >= (0, 13, 4)  # and so past 0.6.4
