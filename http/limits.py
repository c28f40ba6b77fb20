"""What a connection may take, how often a client may ask, how long its request may be prepared."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ..engine.request import Refusal

CLIENTS = 10_000  # remembered at once, about 2 MB; the one not heard of for longest is forgotten
ROUNDING = 1e-6  # seconds; sums of floats must not refuse who waited as told

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The most that a client may take: bytes of a body, seconds of everything else.

    `bodies` is for those of all clients together, and `connections` counts them.
    """

    body: int = 10 * 2**20
    bodies: int = 24 * 2**20
    connections: int = 1000
    header: float = 10.0  # from its first byte to a whole header
    pause: float = 30.0  # between two pieces of a body
    whole: float = 60.0  # for a body, and more as it arrives:
    rate: int = 65536  # bytes a second
    keep_alive: float = 75.0  # between two requests
    stall: float = 60.0  # in which a reader takes nothing of what waits for it


class RateLimit:
    """A bucket for each caller that holds a minute's requests and fills steadily; 0 is no limit.

    A bucket is the moment at which it is full again (the virtual scheduling of ITU-T I.371).
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._full: OrderedDict[str, float] = OrderedDict()

    def take(self, caller: str) -> None:
        if not self._per_minute:
            return
        now, each = self._clock(), 60 / self._per_minute
        full = max(self._full.pop(caller, now), now)
        wait = full - now - (60 - each)
        self._full[caller] = full if wait > ROUNDING else full + each
        if len(self._full) > CLIENTS:
            self._full.popitem(last=False)
        if wait > ROUNDING:
            seconds = math.ceil(wait - ROUNDING)
            raise Refusal(
                429,
                "rate_limit_exceeded",
                f"More than {self._per_minute} requests a minute; try again in {seconds} s.",
                retry_after=seconds,
            )


async def within(seconds: float, work: Awaitable[Result]) -> Result:
    """Return what comes of some work, or refuse with 504 if it takes longer."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        message = f"To read the request took longer than {seconds:g} s."
        raise Refusal(504, "timeout", message) from None
