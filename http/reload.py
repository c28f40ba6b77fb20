"""Settings that come anew while the server runs, and what they do not reach."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields

from ..engine.request import Refusal
from .config import Config, UsageError
from .gateway.settings import GatewaySettings
from .log import Log
from .message import App, HttpRequest, Reply, Response

Reread = Callable[[], tuple[Config, GatewaySettings]]
Build = Callable[[Config, GatewaySettings], Awaitable[App]]
# The settings that an application is built from; others are what the process began with.
BUILT = frozenset(
    {
        *("api_key", "api_key_file", "rate_limit", "cors_origin", "allowed_host"),
        *("stream_format", "stream_chunk_size"),
    }
)


class CurrentApp:
    """The application of the newest settings; an answer goes on with those that it began with."""

    def __init__(self, app: App) -> None:
        self.app = app

    def admit(self, request: HttpRequest) -> HttpRequest:
        return self.app.admit(request)

    def __call__(self, request: HttpRequest) -> Awaitable[Reply]:
        return self.app(request)

    def refuse(self, request: HttpRequest, refusal: Refusal) -> Response:
        return self.app.refuse(request, refusal)

    def crashed(self, request: HttpRequest, error: Exception) -> None:
        self.app.crashed(request, error)

    def finished(self, request: HttpRequest, status: int, sent: int, seconds: float) -> None:
        self.app.finished(request, status, sent, seconds)


NO_TERMINAL = frozenset({errno.ENOTTY, errno.EINVAL, errno.EBADF})  # it never was one


@dataclass(slots=True)
class Reload:
    """Reads the settings anew, and puts what is made of them in place of the old application."""

    current: CurrentApp
    build: Build
    reread: Reread
    config: Config
    log: Log
    under_way: set[asyncio.Task[bool]] = field(default_factory=set)

    def on_hangup(self, stop: Callable[[], None]) -> None:
        """Do what SIGHUP asks for: stop where the terminal is gone, else read the settings."""
        if hung_up():
            stop()
            return
        task = asyncio.ensure_future(self())
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def __call__(self) -> bool:
        """Return whether the new settings are in force; where they are not, the log says why."""
        try:
            config, gateway = await asyncio.to_thread(self.reread)
            self.current.app = await self.build(config, gateway)
        except UsageError as error:
            self.log.error(f"the settings stay as they were: {error}")
            return False
        self.log.info("the settings were read anew")
        if left := unreached(self.config, config):
            self.log.warning(f"only a restart changes {', '.join(left)}")
        return True


def unreached(before: Config, after: Config) -> list[str]:
    """Return the settings that are others now, but were what the process began with."""
    names = [each.name for each in fields(Config) if each.name not in BUILT]
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def hung_up(terminal: int = 0) -> bool:
    """Return whether the terminal is gone that standard input is or was."""
    try:
        os.tcgetpgrp(terminal)
    except OSError as error:
        return error.errno not in NO_TERMINAL
    return False
