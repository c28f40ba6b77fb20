"""The application behind every connection: keys, limits and routes around the handlers."""

from dataclasses import dataclass, replace

from msgspec import structs

from ..engine.request import Refusal
from .auth import CHALLENGE, Auth
from .body import coding_of
from .cors import Cors
from .gateway.budgets import Budgets
from .hosts import Hosts
from .limits import RateLimit
from .log import Log
from .message import JSON, Headers, HttpRequest, Reply, Response
from .routes import RouteTable

ACCEPTED = (b"accept-encoding", b"gzip, deflate")


@dataclass(frozen=True, slots=True)
class Application:
    """The App behind every connection."""

    routes: RouteTable
    auth: Auth
    rate: RateLimit
    cors: Cors
    log: Log
    hosts: Hosts
    budgets: Budgets | None = None

    def admit(self, request: HttpRequest) -> HttpRequest:
        """Return the request with its caller. Raises Refusal."""
        self.hosts.check(request)
        self.cors.check(request)
        coding_of(request.headers)
        if self.cors.asks(request) or self.routes.find(request).public:
            return request
        headers = self.auth.without_ours(request.headers)
        request = structs.replace(request, caller=self.auth.caller(request), headers=headers)
        self.rate.take(request.caller)
        if self.budgets is not None:
            self.budgets.admit(request.caller)
        return request

    async def __call__(self, request: HttpRequest) -> Reply:
        reply = self.cors.preflight(request) or await self.routes.find(request).handler(request)
        cors = self.cors.headers(request)
        return replace(reply, headers=reply.headers + cors) if cors else reply

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
        if refusal.status == 415:
            headers += (ACCEPTED,)
        if refusal.status == 405:
            allowed = ", ".join(self.routes.allowed(request.path))
            headers += ((b"allow", allowed.encode()),)
        return headers

    def crashed(self, request: HttpRequest, error: Exception) -> None:
        self.log.error(f"{request.method} {request.path} failed ({request.id})", error)

    def finished(self, request: HttpRequest, status: int, sent: int, seconds: float) -> None:
        line = f"{request.method} {request.path}" if request.method else "-"
        self.log.access(request.client, line, status, seconds, sent, request.id)
