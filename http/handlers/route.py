"""POST /v1/route: where a request would go, and why, without asking anybody but the auto-router."""

from dataclasses import dataclass

import msgspec
from msgspec import Struct

from ...translate import openai_chat
from ...translate.operation import Operation
from ..backends import Backends
from ..message import HttpRequest, Response
from .answers import decode_body


class RouteBody(Struct):
    by: str  # how it was found, and the name of the route or tier
    targets: list[str]  # in the order in which they would be asked
    steps: list[str]


ROUTE = Operation(
    summary="Say where a request would go",
    request=openai_chat.DECODER,
    response=RouteBody,
    example={"messages": [{"role": "user", "content": "Hello!"}]},
)


@dataclass(frozen=True, slots=True)
class ExplainRoute:
    """POST a chat completion's body, get the decision that it would meet."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        body = request.body.copy()
        chat = await decode_body(openai_chat.decode_request, request.body)
        path = "/v1/chat/completions"
        decision = await self.backends.gateway.decide(chat.model, request, path, body)
        told = RouteBody(decision.by, [*map(str, decision.targets)], [*decision.steps])
        return Response(200, msgspec.json.encode(told))
