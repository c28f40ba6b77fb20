"""`bessemer route`: where a name leads, by the configuration or by the server that runs."""

import http.client
import json
from collections.abc import Sequence
from typing import Any

from ...engine.command_line import fail
from ...engine.request import Refusal
from .. import hub
from ..config import Config, UsageError
from ..serve import named
from .auto_router import read
from .routing import Router
from .schema import ConfigTables

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens there is reached
PATH = "/v1/route"
PATIENCE = 10.0  # seconds for an answer, beside the auto-router's own


def show_route(model: str, prompt: str | None, tables: ConfigTables, config: Config) -> int:
    """Print the steps of a decision and its targets; return the exit code. Raises UsageError."""
    reads = read(tables.auto_router, model)
    if reads and prompt is not None:
        told = _told(model, prompt, config, PATIENCE + tables.auto_router.timeout_ms / 1000)
        return _show(told["steps"], told["by"], told["targets"])
    if reads:
        print("the auto-router reads such requests first; --prompt TEXT shows what it chooses")
    elif prompt is not None:
        print(f"the auto-router does not read requests for {model}")
    wanted = named(config, tables)
    local = hub.names(wanted) if wanted else []
    listed = {name: each.models for name, each in tables.providers.items() if each.models}
    try:
        decision = Router(tables, local, listed).decide(model)
    except Refusal as refusal:
        return fail("bessemer", refusal.message)
    return _show(decision.steps, decision.by, [*map(str, decision.targets)])


def _show(steps: Sequence[str], by: str, targets: Sequence[str]) -> int:
    for step in steps:
        print(step)
    print(f"{by}: {', then '.join(targets)}")
    return 0


def _told(model: str, prompt: str, config: Config, patience: float) -> dict[str, Any]:
    """Return what the running server says. Raises UsageError where none is, or it refuses."""
    host = ANYWHERE.get(config.host, config.host)
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    headers = {"content-type": "application/json"}
    if config.api_key:
        headers["authorization"] = f"Bearer {config.api_key[0]}"
    connection = http.client.HTTPConnection(host, config.port, timeout=patience)
    try:
        connection.request("POST", PATH, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        at = f"{host}:{config.port}"
        message = f"no server of ours answers at {at}, whose auto-router is to read the prompt"
        raise UsageError(f"{message}; start bessemer serve") from None
    finally:
        connection.close()
    if response.status != 200:
        raise UsageError(answer["error"]["message"])
    return dict(answer)
