"""GET /health: whether every model can answer, for balancers and watchdogs, without a key."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from ...translate.operation import Operation
from ..backends import Backends, ModelState
from ..message import JSON, HttpRequest, Response


class Health(Struct, omit_defaults=True):
    """The models' states, and one word for all of them in `status`.

    It is ok where all can answer, as where there are only other servers' models, loading where
    those that cannot load for the first time; with others it is degraded where some can answer,
    else loading while one loads, and down.
    `loading` says of models how far they are, and `down` why they will not come back.
    """

    status: str
    models: dict[str, str]
    loading: dict[str, str] = {}
    down: dict[str, str] = {}


CHECK = Operation(summary="Say whether the models can answer", response=Health, error=Health)


@dataclass(frozen=True, slots=True)
class CheckHealth:
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        models = {name: model.status() for name, model in self.backends.models.items()}
        states: dict[str, ModelState] = {name: model.state for name, model in models.items()}
        stages = {name: model.stage for name, model in models.items() if model.stage}
        down = {name: model.why for name, model in models.items() if model.why}
        body = msgspec.json.encode(Health(_status([*states.values()]), {**states}, stages, down))
        if not models or any(model.ready for model in models.values()):
            return Response(200, body)
        wait = min(model.retry_after for model in models.values())
        return Response(503, body, (*JSON, (b"retry-after", b"%d" % wait)))


def _status(states: Sequence[ModelState]) -> str:
    kinds = {*states}
    if kinds <= {"ready"}:
        return "ok"
    if "ready" in kinds:
        return "loading" if kinds == {"ready", "loading"} else "degraded"
    return "loading" if "loading" in kinds else "down"
