"""llama-swap's config.yaml: models that it starts, peers that it asks, and macros in all of it."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .command_text import Command, model_of
from .draft import DONE, Draft, Key, LeftOut, Rules, To
from .tool_parsers import tool_parser

MACRO = re.compile(r"\$\{([\w.-]+)\}")
ENVIRONMENT = re.compile(r"\$\{env\.(\w+)\}")
DEEPEST, LONGEST = 8, 10_000  # macros in macros; characters of a text with some
OTHER = "no program is started here but Bessemer's own"
LOADED = "models are loaded at the start here, and stay so"
LISTED = "models are listed by their names alone here"
PARAMETERS = "requests keep the parameters that they have here"
LOGS = "logs go to standard error here"
POOLED = "connections are kept open as long as providers do it here"
PAGE = "there is no such page here"
UNDEFINED = "has {} in it, which nothing defines"
NOWHERE = "its program is none that is known here, and no proxy says where it listens"
STRATEGIES = ("pin", "spillover", "warm")
LEVELS: Mapping[str, str] = {"warn": "warning"}


def carry(draft: Draft, document: dict[str, Any]) -> None:
    """Carry over a file, with the values of macros and of this environment in their places."""
    macros = document.get("macros")
    whole = _expanded(document, macros if isinstance(macros, dict) else {})
    last = sorted(whole, key=lambda key: key == "selectors")  # which name what others are
    draft.carry({key: whole[key] for key in last}, RULES)


def _expanded(value: Any, macros: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_text(str(name), macros): _expanded(each, macros) for name, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each, macros) for each in value]
    return _text(value, macros) if isinstance(value, str) else value


def _text(text: str, macros: Mapping[str, Any]) -> str:
    """Put macros in their places; a text that is a variable of the environment's stays its name.

    One that grows without end stays as it is.
    """
    whole = text
    for _ in range(DEEPEST):
        whole = MACRO.sub(lambda found: str(macros.get(found[1], found[0]))[:LONGEST], whole)
        if len(whole) > LONGEST:
            return text
    if ENVIRONMENT.fullmatch(whole):
        return whole
    return ENVIRONMENT.sub(lambda found: os.environ.get(found[1], found[0]), whole)


def _defined(_: Draft, value: Any) -> Any:
    if match := MACRO.search(str(value)):
        raise LeftOut(UNDEFINED.format(match[0]))
    return value


def _key(draft: Draft, text: Any) -> Any:
    """Return a provider's key, which stays in the environment if it is there."""
    if match := ENVIRONMENT.fullmatch(str(text)):
        return f"env:{match[1]}"
    if not str(text).strip():
        raise LeftOut("is empty; a client's own key goes on")
    return _defined(draft, text)


def _client_key(draft: Draft, text: Any) -> Any:
    if match := ENVIRONMENT.fullmatch(str(text)):
        raise LeftOut(f"is {match[1]} of the environment; put it into BESSEMER_API_KEY there")
    return _defined(draft, text)


def _seconds(_: Draft, value: Any) -> Any:
    if value == 0:
        raise LeftOut("is no limit, and there is always one here")
    return value


def _level(_: Draft, level: Any) -> str:
    return LEVELS.get(str(level), str(level))


def _client_keys(draft: Draft, at: Key, texts: Any) -> None:
    if not isinstance(texts, list):
        draft.left[at] = "is no list"
        return
    keys = []
    for i, text in enumerate(texts):
        try:
            keys.append(_client_key(draft, text))
        except LeftOut as why:
            draft.left[*at, i] = str(why)
    if keys:
        draft.put(("server", "api_key"), keys, at)


def _model(draft: Draft, at: Key, model: Any) -> None:
    """Carry over a model: as ours where it can be loaded here, or as a provider's."""
    if not isinstance(model, dict):
        draft.left[at] = "is no table"
        return
    own = model.get("macros")
    known = {**(own if isinstance(own, dict) else {}), "MODEL_ID": at[-1]}
    model = _expanded(model, known)
    command = model_of(str(model.get("cmd", "")))
    if command is not None:
        if macro := MACRO.search(command.path):
            draft.left |= {(*at, key): UNDEFINED.format(macro[0]) for key in model}
            return
        target = _local(draft, at, model, command)
    elif model.get("proxy") and not MACRO.search(str(model["proxy"])):
        target = _remote(draft, at, model)
    else:
        draft.left |= {(*at, key): NOWHERE for key in model}
        return
    for source, alias in _aliases(at, model):
        if alias != at[-1]:
            draft.put(("aliases", alias), target, source)


def _local(draft: Draft, at: Key, model: dict[str, Any], command: Command) -> str:
    """Carry over a model that is loaded here."""
    cmd = (*at, "cmd")
    name, into = draft.model(command.path, str(at[-1]), cmd)
    if command.chat_template is not None:
        draft.put((*into, "chat_template"), command.chat_template, cmd)
    draft.carry({"tool_parser": command.tool_parser}, COMMAND, cmd, into)
    if command.others:
        draft.left[cmd] = f"says more than the model: {', '.join(command.others)}"
    draft.carry(model, {**MODEL, **LOCAL}, at)
    return name


def _remote(draft: Draft, at: Key, model: dict[str, Any]) -> str:
    """Carry over a model that others run, as the one of a provider; return its target."""
    provider = draft.name("providers", str(at[-1]))
    there = str(model.get("useModelName") or at[-1])
    draft.put(("providers", provider, "models"), [there], (*at, "proxy"))
    draft.carry(model, {**MODEL, **REMOTE}, at, ("providers", provider))
    draft.put(("aliases", str(at[-1])), f"{provider}/{there}", (*at, "proxy"))
    return f"{provider}/{there}"


def _aliases(at: Key, model: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    """Yield a model's other names; each that has parameters of its own is one."""
    aliases, filters = model.get("aliases"), model.get("filters")
    for i, alias in enumerate(aliases if isinstance(aliases, list) else []):
        yield (*at, "aliases", i), str(alias)
    by_name = filters.get("setParamsByID") if isinstance(filters, dict) else None
    for alias in by_name if isinstance(by_name, dict) else ():
        yield (*at, "filters", "setParamsByID", alias), alias


def _selector(draft: Draft, at: Key, selector: Any) -> None:
    """Carry over a name for several models as a tier."""
    targets = selector.get("targets") if isinstance(selector, dict) else None
    pinned = isinstance(selector, dict) and selector.get("strategy") == "pin"
    first = targets[: 1 if pinned else None] if isinstance(targets, list) else []
    meant = [draft.leads(str(each)) for each in first]
    if not (known := [each for each in meant if each is not None]):
        draft.left[at] = "leads to no model that is carried over"
        return
    draft.carry(selector, SELECTOR, at)
    unknown = "names no model that is carried over"
    draft.left |= {(*at, "targets", i): unknown for i, each in enumerate(meant) if each is None}
    name = draft.name("tiers", str(at[-1]))
    draft.put(("tiers", name, "targets"), known, (*at, "targets"))
    if selector.get("strategy") == "spillover":
        draft.put(("tiers", name, "choice"), "least_busy", (*at, "strategy"))
    if name != at[-1]:
        draft.put(("aliases", str(at[-1])), name, (*at, "targets"))


def _strategy(draft: Draft, at: Key, strategy: Any) -> None:
    if strategy not in STRATEGIES:
        draft.left[at] = f"is none of {', '.join(STRATEGIES)}; targets are asked in their order"


COMMAND: Rules = {"tool_parser": To("tool_parser", tool_parser)}

MODEL: Rules = {
    "aliases[]": DONE,
    "macros": DONE,
    "cmdStop": OTHER,
    "env": OTHER,
    "checkEndpoint": OTHER,
    "ttl": LOADED,
    "unloadTimeout": LOADED,
    "sendLoadingState": LOADED,
    "name": LISTED,
    "description": LISTED,
    "metadata": LISTED,
    "unlisted": LISTED,
    "capabilities": LISTED,
    "compat": "websockets are not spoken here",
    "filters.stripParams": PARAMETERS,
    "filters.setParams": PARAMETERS,
    "filters.setParamsByID.*": f"its name leads to the model, but {PARAMETERS}",
}

LOCAL: Rules = {
    "cmd": DONE,
    "proxy": "the model is loaded here",
    "useModelName": "the model is loaded here",
    "timeouts": "the model is loaded here",
    "concurrencyLimit": "see --max-batch and --queue, which are for all models",
}

TIMEOUTS: Rules = {
    "timeouts.connect": To("connect_timeout", _seconds),
    "timeouts.responseHeader": To("first_byte_timeout", _seconds),
    "timeouts.keepalive": POOLED,
    "timeouts.idleConn": POOLED,
    "timeouts.tlsHandshake": "it is part of connect_timeout here",
    "timeouts.expectContinue": "nothing is expected here before a body is sent",
}

REMOTE: Rules = {
    **TIMEOUTS,
    "cmd": OTHER,
    "proxy": To("url", _defined),
    "useModelName": DONE,
    "concurrencyLimit": To("max_concurrency"),
}

PEER: Rules = {
    **TIMEOUTS,
    "proxy": To("url", _defined),
    "apiKey": To("api_key", _key),
    "models": To("models"),
    "filters": PARAMETERS,
    "tailcatKey": "Tailcat is not spoken here",
}

SELECTOR: Rules = {
    "targets[]": DONE,
    "strategy": _strategy,
    "settings": "the least busy target is the first here",
    "name": LISTED,
    "description": LISTED,
    "unlisted": LISTED,
    "metadata": LISTED,
}


def _macros(draft: Draft, at: Key, macros: Any) -> None:
    if not isinstance(macros, dict):
        draft.left[at] = "is no table"


def _peer(draft: Draft, at: Key, peer: Any) -> None:
    draft.carry(peer, PEER, at, ("providers", draft.name("providers", str(at[-1]))))


RULES: Rules = {
    "macros": _macros,
    "models.*": _model,
    "peers.*": _peer,
    "selectors.*": _selector,
    "apiKeys": _client_keys,
    "logLevel": To("server.log_level", _level),
    "groups": LOADED,
    "matrix": LOADED,
    "routing.router": LOADED,
    "routing.scheduler": "requests take turns by client here",
    "hooks": LOADED,
    "globalTTL": LOADED,
    "unloadTimeout": LOADED,
    "sendLoadingState": LOADED,
    "healthCheckTimeout": OTHER,
    "healthCheckInterval": OTHER,
    "startPort": OTHER,
    "profiles": "names are not switched while the server runs here",
    "includeAliasesInList": LISTED,
    "upstream": PAGE,
    "ui": PAGE,
    "performance": PAGE,
    "captureBuffer": PAGE,
    "metricsMaxInMemory": PAGE,
    "store": PAGE,
    "tailcat": "Tailcat is not spoken here",
    "logRequests": LOGS,
    "logTimeFormat": LOGS,
    "logToStdout": LOGS,
}
