"""The way of a request whose model may be elsewhere: decided, tried, explained and counted."""

import asyncio
import re
from dataclasses import dataclass, replace

from msgspec import structs

from ...engine.request import Refusal
from ...translate.upstream.refusals import decode_error
from ..backends import Backends
from ..body import Body
from ..message import HttpRequest, Reply, Response, StreamingResponse
from ..routes import Handler
from .asked import asks
from .cascade import may_pass
from .metering import metered
from .model_name import model_named
from .routing import Decision, Meant, Target

QUICK = 32768  # bytes of a body; the most hostile one of that size takes 5 ms to read a name from
ROUTE = b"x-bessemer-route"
LONGEST = 500  # bytes of that header
UNSENT = re.compile("[^ -~]")  # what it does not carry, of a name that a client chose


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
        try:
            reply, target = await gateway.cascade.answered(decision, attempts.at, _discard)
        except RelayedError as error:
            reply, target = error.reply, error.target
        request.body.drop()
        gateway.counted(decision)
        said = UNSENT.sub("?", f"{decision.by}; {target}").encode()[:LONGEST]
        return replace(reply, headers=(*reply.headers, (ROUTE, said)))


class RelayedError(Refusal):
    """An error as a target sent it, which another one may be asked instead of."""

    def __init__(self, refusal: Refusal, reply: Response, target: Target) -> None:
        super().__init__(refusal.status, refusal.code, refusal.message)
        self.reply = reply
        self.target = target


@dataclass(frozen=True, slots=True)
class _Attempts:
    """The attempts at one request."""

    dispatch: Dispatch
    request: HttpRequest
    name: str
    body: bytes
    decision: Decision

    async def at(self, target: Target, last: bool) -> Reply:
        """Return a target's reply, whose first byte is there. Raises Refusal."""
        dispatch, decision, path = self.dispatch, self.decision, self.dispatch.path
        gateway, caller = dispatch.backends.gateway, self.request.caller
        gateway.check(caller, self.name, target)
        spent = gateway.spending(caller, target)
        meant = Meant(target, decision.asked, decision.lossy, last, spent)
        here = target.provider is None and len(decision.targets) == 1
        body = self.request.body if here else Body(self.body)
        request = structs.replace(self.request, body=body, meant=meant)
        backend = dispatch.backends.meant(meant)
        if path not in backend.relays or asks(decision.asked):
            return await dispatch.handler(request)
        reply = await backend.relay(request, path)
        if isinstance(reply, Response) and reply.status >= 400:
            refusal = decode_error(reply.status, reply.body)
            if may_pass(refusal):
                raise RelayedError(refusal, reply, target)
        return reply if spent is None else metered(reply, spent)


async def _discard(reply: Reply) -> None:
    if isinstance(reply, StreamingResponse):
        await reply.chunks.aclose()
