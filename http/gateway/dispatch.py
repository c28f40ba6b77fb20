"""The way of a request whose model may be elsewhere: decided, tried, explained and counted."""

import asyncio
from dataclasses import dataclass, replace

from msgspec import structs

from ..backends import Backends
from ..body import Body
from ..message import HttpRequest, Reply, StreamingResponse
from ..routes import Handler
from .asked import asks
from .metering import metered
from .model_name import model_named
from .routing import Decision, Meant, Target

QUICK = 32768  # bytes of a body; the most hostile one of that size takes 5 ms to read a name from
ROUTE = b"x-bessemer-route"
LONGEST = 500  # bytes of that header


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A path's handler, once for each target that the request may go to.

    A target that speaks the path's dialect takes the request as it is.
    """

    handler: Handler
    backends: Backends
    path: str

    async def __call__(self, request: HttpRequest) -> Reply:
        if not self.backends.relays:
            return await self.handler(request)
        body = request.body.copy()
        named = model_named
        name = named(body) if len(body) < QUICK else await asyncio.to_thread(named, body)
        if name is None:  # it is no request, as its handler says
            return await self.handler(request)
        gateway = self.backends.gateway
        decision = await gateway.decide(name, request, self.path, body)
        attempts = _Attempts(self, request, name, body, decision)
        reply, target = await gateway.cascade.answered(decision, attempts.at, _discard)
        request.body.drop()
        gateway.counted(decision)
        said = f"{decision.by}; {target}".encode("ascii", "replace")[:LONGEST]
        return replace(reply, headers=(*reply.headers, (ROUTE, said)))


@dataclass(frozen=True, slots=True)
class _Attempts:
    """The attempts at one request."""

    dispatch: Dispatch
    request: HttpRequest
    name: str
    body: bytes
    decision: Decision

    async def at(self, target: Target) -> Reply:
        """Return a target's reply, whose first byte is there. Raises Refusal."""
        dispatch, decision, path = self.dispatch, self.decision, self.dispatch.path
        gateway, caller = dispatch.backends.gateway, self.request.caller
        gateway.check(caller, self.name, target)
        last = target == decision.targets[-1]
        spent = gateway.spending(caller, target)
        meant = Meant(target, decision.asked, decision.lossy, last, spent)
        body = self.request.body if len(decision.targets) == 1 else Body(self.body)
        request = structs.replace(self.request, body=body, meant=meant)
        backend = dispatch.backends.meant(meant)
        if path not in backend.relays or asks(decision.asked):
            return await dispatch.handler(request)
        reply = await backend.relay(request, path)
        return reply if spent is None else metered(reply, spent)


async def _discard(reply: Reply) -> None:
    if isinstance(reply, StreamingResponse):
        await reply.chunks.aclose()
