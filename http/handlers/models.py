"""GET /v1/models: one listing that the OpenAI and the Anthropic packages both read."""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from ...translate.operation import Operation
from ..backends import Backend, Backends
from ..gateway.catalog import Catalog
from ..message import HttpRequest, Response
from ..routes import rest


class ModelBody(Struct):
    id: str
    created: int
    created_at: str
    display_name: str
    context_window: int | None
    max_model_len: int | None  # vLLM's name for the same, which some clients look for
    loaded: bool
    object: str = "model"
    type: str = "model"
    owned_by: str = "local"


class ModelList(Struct):
    data: list[ModelBody]
    first_id: str | None
    last_id: str | None
    object: str = "list"
    has_more: bool = False


def describe(model: Backend) -> ModelBody:
    status = model.status()
    created = datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z")
    return ModelBody(
        model.name, model.created, created, model.name, status.context, status.context, status.ready
    )


async def _elsewhere(catalog: Catalog | None) -> list[ModelBody]:
    """Return the models that providers have, by the names that lead to them here."""
    if catalog is None:
        return []
    await catalog.refresh()
    names = ((owner, f"{owner}/{name}") for owner, all_ in catalog.listed.items() for name in all_)
    about = 0, datetime.fromtimestamp(0, UTC).isoformat().replace("+00:00", "Z")
    return [
        ModelBody(name, *about, name, None, None, True, owned_by=owner) for owner, name in names
    ]


LIST = Operation(summary="List the models", response=ModelList)
GET = Operation(summary="Describe a model", response=ModelBody)


@dataclass(frozen=True, slots=True)
class ListModels:
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        own = self.backends.models
        models = [*map(describe, own.values()), *await _elsewhere(self.backends.gateway.catalog)]
        models.sort(key=lambda each: each.id)
        first, last = (models[0].id, models[-1].id) if models else (None, None)
        return Response(200, msgspec.json.encode(ModelList(models, first, last)))


@dataclass(frozen=True, slots=True)
class GetModel:
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        model = self.backends.find(rest(request, "/v1/models"))
        return Response(200, msgspec.json.encode(describe(model)))
