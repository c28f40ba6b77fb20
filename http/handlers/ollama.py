"""Ollama's lists: the models that are there or loaded, what one can do, the version."""

import sys
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ...engine.request import Refusal
from ...translate.errors import OllamaErrorBody
from ...translate.fields import RequestDecoder
from ...translate.ollama import when
from ...translate.operation import Operation
from ..about import About, in_words
from ..backends import Backend, Backends
from ..message import HttpRequest, Response
from .answers import decode_body

# The version of Ollama whose API is spoken: editors want 0.6.4 at least, Codex 0.13.4.
API = "0.13.5"
NEVER = "9999-12-31T23:59:59Z"  # when a model is unloaded: by nothing but the server's end
UNIFIED = sys.platform == "darwin"  # memory: what a model has, its GPU has


class Version(Struct):
    version: str


class Details(Struct):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ModelBody(Struct, kw_only=True):
    name: str
    model: str
    size: int
    digest: str
    details: Details


class ListedModel(ModelBody, kw_only=True):
    modified_at: str
    capabilities: list[str]


class RunningModel(ModelBody, kw_only=True):
    expires_at: str
    size_vram: int
    context_length: int


class TagList(Struct):
    models: list[ListedModel]


class RunningList(Struct):
    models: list[RunningModel]


class ShowRequest(Struct):
    model: str | None = None
    name: str | None = None  # what `model` was once called


class Shown(Struct):
    modelfile: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    parameters: str | UnsetType = UNSET


SHOW: RequestDecoder[ShowRequest] = RequestDecoder(ShowRequest, {})
UNREAD = About("", "", "", 0, 0, "", 0.0, "", {})  # of a model whose files are not read yet


async def tell_version(_: HttpRequest) -> Response:
    return Response(200, msgspec.json.encode(Version(API)))


@dataclass(frozen=True, slots=True)
class ListTags:
    """GET /api/tags: the models that there are."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        models = [
            ListedModel(
                **_named(model),
                modified_at=when((model.about or UNREAD).modified or model.created),
                capabilities=list(model.traits.capabilities),
            )
            for model in self.backends.models.values()
        ]
        return Response(200, msgspec.json.encode(TagList(models)))


@dataclass(frozen=True, slots=True)
class ListRunning:
    """GET /api/ps: the models that are loaded, with all the memory that is theirs."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        running: list[RunningModel] = []
        for model in self.backends.models.values():
            status = model.status()
            if status.ready and status.plan is not None:
                plan, named = status.plan, _named(model)
                named["size"] = plan.weights + plan.pool + plan.working + plan.program
                running.append(
                    RunningModel(
                        **named,
                        expires_at=NEVER,
                        size_vram=named["size"] if UNIFIED else 0,
                        context_length=plan.context,
                    )
                )
        return Response(200, msgspec.json.encode(RunningList(running)))


@dataclass(frozen=True, slots=True)
class ShowModel:
    """POST /api/show: what a model is, and what it can do."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        asked = await decode_body(SHOW.decode, request.body)
        name = asked.model or asked.name
        if not name:
            raise Refusal(400, "missing_required_parameter", "model is required.", "model")
        model = self.backends.find(name)
        about, traits = model.about or UNREAD, model.traits
        body = Shown(
            modelfile=f"FROM {model.name}\n",
            template=traits.template,
            details=_details(about),
            model_info=_info(model, about),
            capabilities=list(traits.capabilities),
            modified_at=when(about.modified or model.created),
        )
        return Response(200, msgspec.json.encode(body))


def tagged(name: str) -> str:
    """Return a model's name with a tag, as clients of Ollama compare names."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _named(model: Backend) -> dict[str, Any]:
    about, name = model.about or UNREAD, tagged(model.name)
    named = {"name": name, "model": name, "size": about.size, "digest": about.digest}
    return {**named, "details": _details(about)}


def _details(about: About) -> Details:
    return Details(
        "",
        about.format,
        about.family,
        [about.family] if about.family else [],
        in_words(about.parameters),
        about.quantization,
    )


def _info(model: Backend, about: About) -> dict[str, Any]:
    """Return what is said by GGUF's names; the context is what the server gives it."""
    sizes = dict(about.sizes)
    sizes["context_length"] = model.status().context or sizes.get("context_length", 0)
    return {
        "general.architecture": about.family,
        "general.basename": model.name,
        "general.parameter_count": about.parameters,
        "general.file_type": about.quantization,
        **{f"{about.family}.{name}": size for name, size in sizes.items() if size},
    }


def _told(summary: str, response: Any, **more: Any) -> Operation:
    return Operation(summary=summary, response=response, error=OllamaErrorBody, **more)


TAGS = _told("List the models, as Ollama does", TagList)
RUNNING = _told("List the models that are loaded, as Ollama does", RunningList)
VERSION = _told("Tell the version of Ollama's API that is spoken", Version)
SHOWN = _told(
    "Describe a model, as Ollama does", Shown, request=SHOW, example={"model": "bessemer-guide"}
)
