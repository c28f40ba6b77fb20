"""A whole server in a thread, of whatever backends and dialects, and a plain request to it."""

import asyncio
import io
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any

from bessemer.http.app import Application
from bessemer.http.auth import Auth
from bessemer.http.backends import Backend, Backends
from bessemer.http.cors import Cors
from bessemer.http.endpoints import DIALECTS, endpoints
from bessemer.http.gateway.backend import RemoteBackend
from bessemer.http.hosts import Hosts
from bessemer.http.limits import ConnectionLimits, RateLimit
from bessemer.http.listen import Shutdown, bind, listen
from bessemer.http.log import Log
from bessemer.http.responses.keeping import KeptResponses
from bessemer.http.routes import RouteTable
from bessemer.translate.dialect import Dialect


@contextmanager
def serving(
    *models: Backend,
    dialects: dict[str, Dialect] | None = None,
    kept: KeptResponses | None = None,
    keys: Sequence[str] = (),
    written: io.BytesIO | None = None,
) -> Iterator[int]:
    """Yield the port of a server of these models, with dialects of its own beside the usual.

    Its log is `written`.
    """
    backends = Backends({model.name: model for model in models})
    routes = endpoints(backends, {**DIALECTS, **(dialects or {})}, kept=kept)
    with Log("info", written or io.BytesIO()) as log:
        app = Application(
            RouteTable(routes), Auth(keys), RateLimit(0), Cors(()), log, Hosts(("*",))
        )
        sockets, ready = bind("127.0.0.1", 0), threading.Event()
        stop: list[Any] = []

        async def run() -> None:
            shutdown = Shutdown()
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(shutdown.request))
            ready.set()
            await listen(
                app, sockets, ConnectionLimits(), shutdown, grace=5, interrupt=lambda: None
            )
            for model in models:
                if isinstance(model, RemoteBackend):
                    await model.remote.client.aclose()

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        ready.wait()
        try:
            yield sockets[0].getsockname()[1]
        finally:
            stop[0]()
            thread.join()


def post(
    port: int, path: str, body: Any, sent: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", path, json.dumps(body), sent or {})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
