"""`bessemer serve`: from the settings to a running server, and down again."""

import asyncio
import gc
import json
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..engine.embedding.sentence_transformers import Purpose
from ..engine.request import shutting_down
from . import gguf_models, hub
from .app import Application
from .auth import Auth
from .backends import DOES, Backend, Backends
from .config import Config, warning
from .cors import Cors
from .endpoints import endpoints
from .gateway.opening import gateways
from .gateway.schema import ConfigTables
from .gateway.settings import NO_GATEWAY, GatewaySettings
from .gguf_models import DEFAULT
from .handlers.answers import Streaming
from .hosts import Hosts
from .limits import ConnectionLimits, RateLimit
from .listen import Shutdown, address, bind, listen, run
from .local import Patience
from .log import Log
from .machine import hand_back_memory
from .reload import CurrentApp, Reload, Reread
from .responses.keeping import KeptResponses, keeping
from .routes import RouteTable
from .startup import starting

ANY = ("*",)  # no rebound name helps a page that does not know the key
EXAMPLES: Mapping[Purpose, Callable[[str], Mapping[str, Any]]] = {
    "generate": lambda ask: {
        "stream": True,
        "temperature": 0,
        "messages": [{"role": "user", "content": ask}],
    },
    "embed": lambda ask: {"input": ask},
    "rerank": lambda ask: {"query": ask, "documents": ["By bessemer serve.", "It rains."]},
}


def serve(
    config: Config, gateway: GatewaySettings = NO_GATEWAY, reread: Reread | None = None
) -> int:
    """Serve until told to stop; return the exit code. Raises UsageError.

    With `reread` SIGHUP has the settings read anew, unless it says that the terminal is gone.
    Where other servers' models are served, there is none of this one's but those that are named.
    """
    hand_back_memory()
    wanted = named(config, gateway.tables)
    models = hub.models(replace(config, models=wanted)) if wanted else {}
    sockets = bind(config.host, config.port)
    with Log(config.log_level) as log:
        return run(_serve(config, gateway, models, sockets, log, reread))


def named(config: Config, tables: ConfigTables) -> tuple[str, ...]:
    """Return the models to serve: those that are named, the usual ones where there are no others,
    and what the auto-router chooses with."""
    auto, models = tables.auto_router, config.models
    if not models and (not tables.providers or (auto.on and auto.model is None)):
        return hub.defaults()
    known = (*models, *hub.names(models))
    if auto.on and auto.model is not None and auto.model not in known:
        models += (auto.model,)
    return models


async def _serve(
    config: Config,
    gateway: GatewaySettings,
    models: Mapping[str, Path],
    sockets: Sequence[socket.socket],
    log: Log,
    reread: Reread | None,
) -> int:
    if not gateway.keys and (risk := warning(config)):
        log.warning(risk)
    if not config.models and set(models) == {hub.BUILT_IN_NAME}:
        log.info(f"only {hub.BUILT_IN_NAME} answers; for a real model: {gguf_models.how(DEFAULT)}")
    patience = Patience(config.heartbeat, config.timeout)
    shutdown, url = Shutdown(), address(sockets)
    async with (
        keeping(config, log) as kept,
        starting(models, config, log, patience) as (local, loading),
        gateways(local.models, patience, log) as opened,
    ):

        async def build(config: Config, gateway: GatewaySettings) -> Application:
            return application(config, await opened.open(gateway), kept, log, gateway)

        current = CurrentApp(await build(config, gateway))
        again = reread and Reload(current, build, reread, config, log)
        shutdown.on_signals(again and partial(again.on_hangup, shutdown.request))
        listening = asyncio.create_task(
            listen(
                current,
                sockets,
                ConnectionLimits(body=config.body_limit),
                shutdown,
                grace=config.grace,
                interrupt=lambda: opened.interrupt(shutting_down()),
            )
        )
        log.info(f"{url} answers 503 until models are loaded")
        try:
            await asyncio.wait({loading, listening}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                await loading  # which may raise
                gc.freeze()  # what is there now stays; to look through it takes 40 ms
                keyed = bool(config.api_key or gateway.keys)
                print(banner(local, gateway, url, keyed), flush=True)
                await listening
        finally:
            shutdown.at_once()
            await listening
    return 0


def application(
    config: Config,
    backends: Backends,
    kept: KeptResponses | None,
    log: Log,
    gateway: GatewaySettings = NO_GATEWAY,
) -> Application:
    """Return what answers; named keys are as good as others to get in."""
    keys = (*config.api_key, *(key for key, _ in gateway.keys.values()))
    streaming = Streaming(config.stream_format, config.stream_chunk_size)
    return Application(
        RouteTable(endpoints(backends, streaming=streaming, kept=kept)),
        Auth(keys),
        RateLimit(config.rate_limit),
        Cors(config.cors_origin),
        log,
        Hosts(ANY if keys else (*config.allowed_host, config.host)),
        backends.gateway.budgets,
    )


def banner(backends: Backends, gateway: GatewaySettings, url: str, keyed: bool) -> str:
    """Say what a person wants to know once the server is up, with a line to try it."""
    lines = [f"Bessemer serves on {url}"]
    for name, model in backends.models.items():
        status = model.status()
        if status.ready:
            lines += [f"  {name} ({status.model_type}), ready in {status.seconds:.1f} s"]
            lines += [f"    {status.plan}"]
    for name, provider in gateway.providers.items():
        lines += [f"  {name}: the models of {provider.url}"]
    first = next(iter(backends.models.values()), None)
    return "\n".join([*lines, *(["Try it:", f"  {curl(url, first, keyed)}"] if first else [])])


def curl(url: str, model: Backend, keyed: bool) -> str:
    path, _, _ = DOES[model.purpose][1].partition(" ")  # of several the first
    ask = "How do I serve a model?" if model.name == hub.BUILT_IN_NAME else "Why is the sky blue?"
    body = json.dumps({"model": model.name, **EXAMPLES[model.purpose](ask)})
    key = ' -H "Authorization: Bearer $BESSEMER_API_KEY"' if keyed else ""
    return f"curl -N {url}{path}{key} -d {shlex.quote(body)}"
