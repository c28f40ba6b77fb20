"""GET /health: whether every model can answer, for balancers and watchdogs, without a key."""

from dataclasses import dataclass

import msgspec
from msgspec import Struct

from ..backends import Backends
from ..message import HttpRequest, Response


class Health(Struct):
    """The models' states; `status` is ok, degraded (one is being restarted) or down (all are)."""

    status: str
    models: dict[str, str]


@dataclass(frozen=True, slots=True)
class CheckHealth:
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        states = {
            name: "ready" if model.status().ready else "restarting"
            for name, model in self.backends.models.items()
        }
        ready = [state == "ready" for state in states.values()]
        status = "ok" if all(ready) else "degraded" if any(ready) else "down"
        code = 503 if status == "down" else 200
        return Response(code, msgspec.json.encode(Health(status, states)))
