"""A server with a gateway, whose settings a test gives as config.toml, and may give anew."""

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bessemer.http.app import Application
from bessemer.http.backends import Backend
from bessemer.http.config import Config, read_config
from bessemer.http.gateway.config_file import read
from bessemer.http.gateway.opening import gateways
from bessemer.http.gateway.settings import GatewaySettings, gateway_settings
from bessemer.http.limits import ConnectionLimits
from bessemer.http.listen import Shutdown, bind, listen
from bessemer.http.local import Patience
from bessemer.http.log import Log
from bessemer.http.reload import CurrentApp, Reload
from bessemer.http.serve import application
from tests.http.gateway.fake import Asked, Wire

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "theirs",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
}


def says(asked: Asked, wire: Wire) -> None:
    """Answer as OpenAI's chat completions do, whatever is asked."""
    wire.answer(json.dumps(ANSWER).encode())


def fails(status: str) -> Callable[[Asked, Wire], None]:
    return lambda asked, wire: wire.answer(b'{"error":{"message":"No."}}', status)


@dataclass
class Served:
    """A running server: its port, what it logged, and a way to have its settings read anew."""

    port: int
    config: Path
    said: io.BytesIO = field(default_factory=io.BytesIO)
    again: Callable[[], bool] = lambda: False

    @property
    def log(self) -> str:
        return self.said.getvalue().decode()

    def reload(self, text: str) -> bool:
        """Write config.toml anew and have it read; return whether it is in force."""
        self.config.write_text(text)
        return self.again()


@contextmanager
def served(folder: Path, text: str, *models: Backend, **environment: str) -> Iterator[Served]:
    config = folder / "config.toml"
    config.write_text(text)

    def reread() -> tuple[Config, GatewaySettings]:
        file = read(config, environment)
        return read_config({}, environment, file.settings()), gateway_settings(file, environment)

    sockets, ready = bind("127.0.0.1", 0), threading.Event()
    server, stop = Served(sockets[0].getsockname()[1], config), list[Any]()

    async def run() -> None:
        local = {model.name: model for model in models}
        with Log("info", server.said) as log:
            async with gateways(local, Patience(heartbeat=0.2), log) as opened:

                async def build(config: Config, gateway: GatewaySettings) -> Application:
                    return application(config, await opened.open(gateway), None, log, gateway)

                settings = reread()
                current, loop = CurrentApp(await build(*settings)), asyncio.get_running_loop()
                again = Reload(current, build, reread, settings[0], log)
                server.again = lambda: asyncio.run_coroutine_threadsafe(again(), loop).result(30)
                shutdown = Shutdown()
                stop.append(lambda: loop.call_soon_threadsafe(shutdown.request))
                ready.set()
                about: dict[str, Any] = {"grace": 5, "interrupt": lambda: None}
                await listen(current, sockets, ConnectionLimits(), shutdown, **about)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(30)
    try:
        yield server
    finally:
        stop[0]()
        thread.join()
