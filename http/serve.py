"""`bessemer serve`: from the settings to a running server, and down again."""

import json
import shlex
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.request import Refusal
from . import hub
from .app import Application
from .auth import Auth
from .backends import Backends
from .config import Config, warning
from .connection import Limits
from .cors import Cors
from .endpoints import endpoints
from .generate import Patience
from .limits import RateLimit
from .listen import Shutdown, address, bind, listen, run
from .local import started
from .log import Log
from .routes import Router


def serve(config: Config) -> int:
    """Serve until told to stop; the exit code. Raises UsageError."""
    models = hub.models(config)
    sockets = bind(config.host, config.port)
    with Log(config.log_level) as log:
        return run(_serve(config, models, sockets, log))


async def _serve(
    config: Config, models: Mapping[str, Path], sockets: Sequence[socket.socket], log: Log
) -> int:
    if risk := warning(config):
        log.warning(risk)
    async with started(models, config, log) as backends:
        shutdown = Shutdown()
        shutdown.on_signals()
        print(banner(backends, address(sockets), bool(config.api_key)), flush=True)
        await listen(
            _application(config, backends, log),
            sockets,
            Limits(body=config.body_limit),
            shutdown,
            grace=config.grace,
            interrupt=lambda: _interrupt(backends),
        )
    return 0


def _application(config: Config, backends: Backends, log: Log) -> Application:
    patience = Patience(config.heartbeat, config.timeout)
    return Application(
        Router(endpoints(backends, config.max_tokens, patience)),
        Auth(config.api_key),
        RateLimit(config.rate_limit),
        Cors(config.cors_origin),
        log,
        config.timeout,
    )


def _interrupt(backends: Backends) -> None:
    for local in backends.models.values():
        local.worker.refuse_all(Refusal(503, "shutting_down", "The server is shutting down."))


def banner(backends: Backends, url: str, keyed: bool) -> str:
    """What a person wants to know once the server is up, with a line to try it."""
    lines = [f"Bessemer serves on {url}"]
    for name, local in backends.models.items():
        if ready := local.worker.ready:
            lines += [f"  {name} ({ready.model_type}), ready in {local.worker.seconds:.1f} s"]
            lines += [f"    {ready.plan}"]
    name = next(iter(backends.models))
    return "\n".join([*lines, "Try it:", f"  {curl(url, name, keyed)}"])


def curl(url: str, model: str, keyed: bool) -> str:
    question = {"role": "user", "content": "How do I serve a model?"}
    body = json.dumps({"model": model, "stream": True, "messages": [question]})
    key = ' -H "Authorization: Bearer $BESSEMER_API_KEY"' if keyed else ""
    return f"curl -N {url}/v1/chat/completions{key} -d {shlex.quote(body)}"
