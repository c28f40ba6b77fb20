"""The application behind every connection: keys, limits and routes around the handlers."""

from dataclasses import dataclass, replace

from msgspec import structs

from ..engine.request import Refusal
from .auth import CHALLENGE, Auth
from .cors import Cors
from .limits import RateLimit
from .log import Log
from .message import JSON, Headers, HttpRequest, Reply, Response
from .routes import RouteTable


@dataclass(frozen=True, slots=True)
class Application:
    """The App behind every connection."""

    routes: RouteTable
    auth: Auth
    rate: RateLimit
    cors: Cors
    log: Log

    async def __call__(self, request: HttpRequest) -> Reply:
        reply = self.cors.preflight(request) or await self._answer(request)
        cors = self.cors.headers(request)
        return replace(reply, headers=reply.headers + cors) if cors else reply

    async def _answer(self, request: HttpRequest) -> Reply:
        route = self.routes.find(request)
        if not route.public:
            request = structs.replace(request, caller=self.auth.caller(request))
            self.rate.take(request.caller)
        return await route.handler(request)

    def refuse(self, request: HttpRequest, refusal: Refusal) -> Response:
        body = self.routes.encode_error(request)(refusal, request.id)
        headers = (*JSON, *self._explain(request, refusal), *self.cors.headers(request))
        return Response(refusal.status, body, headers)

    def _explain(self, request: HttpRequest, refusal: Refusal) -> Headers:
        """Return the headers that a status calls for."""
        headers: Headers = ()
        if refusal.retry_after is not None:
            headers += ((b"retry-after", b"%d" % refusal.retry_after),)
        if refusal.status == 401:
            headers += (CHALLENGE,)
        if refusal.status == 405:
            allowed = ", ".join(self.routes.allowed(request.path))
            headers += ((b"allow", allowed.encode()),)
        return headers

    def crashed(self, request: HttpRequest, error: Exception) -> None:
        self.log.error(f"{request.method} {request.path} failed ({request.id})", error)

    def finished(self, request: HttpRequest, status: int, sent: int, seconds: float) -> None:
        line = f"{request.method} {request.path}" if request.method else "-"
        self.log.access(request.client, line, status, seconds, sent, request.id)
