"""The checks of a configuration as a whole: names that must be known, or be there only once."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches

from .schema import ConfigTables

LOCAL = ("local", "bessemer", "higgs")  # what stands for this server's own models
RESERVED = (*LOCAL, "auto")
MODEL_NAME = re.compile(r"[^=/\s]+")  # what may stand before the = of --model NAME=MODEL

Key = tuple[str | int, ...]
Mistake = Callable[[Key, str], Exception]


def check(tables: ConfigTables, mistake: Mistake) -> None:
    """Raise what `mistake` makes of the first key whose value cannot be meant, and why."""
    for key, problem in _problems(tables):
        raise mistake(key, problem)


def _problems(tables: ConfigTables) -> Iterator[tuple[Key, str]]:
    yield from _models(tables)
    yield from _providers(tables)
    yield from _routes(tables)
    yield from _tiers(tables)
    for name, target in tables.aliases.items():
        yield from _target(("aliases", name), target, tables)
    if tables.default is not None:
        yield from _provider(("default", "provider"), tables.default.provider, tables)
    router = tables.auto_router
    if (router.enabled or router.force) and not any(route.description for route in tables.routes):
        yield ("auto_router",), "chooses among routes that have a description, and none has one"


def _models(tables: ConfigTables) -> Iterator[tuple[Key, str]]:
    for at, model in enumerate(tables.models):
        for name in ("path", "name", "chat_template", "tool_parser"):
            value = getattr(model, name)
            if value is not None and not value.strip():
                yield ("models", at, name), "is blank"
        if model.name is not None and not MODEL_NAME.fullmatch(model.name):
            problem = "may hold no slash, no = and no space; an alias may be called so"
            yield ("models", at, "name"), problem
    yield from _twice("models", "path", (model.path for model in tables.models))
    yield from _twice("models", "name", (model.name for model in tables.models))


def _providers(tables: ConfigTables) -> Iterator[tuple[Key, str]]:
    for name, provider in tables.providers.items():
        key = ("providers", name)
        if name in RESERVED:
            yield key, f"may not be called {name}, which means something else in a route"
        if name in tables.tiers:
            yield key, "has the name of a tier; call one of the two otherwise"
        if provider.strip_auth and provider.pass_auth:
            yield (*key, "pass_auth"), "says the opposite of strip_auth; leave one of them out"
        if provider.api_key is not None and not provider.api_key.strip():
            yield (*key, "api_key"), "is blank; leave it out to let a client's own key go on"


def _routes(tables: ConfigTables) -> Iterator[tuple[Key, str]]:
    for at, route in enumerate(tables.routes):
        key = ("routes", at)
        if route.pattern is None and route.description is None:
            yield key, "needs a pattern or a description"
        if route.description is not None and route.name is None:
            yield key, "has a description, and so needs a name"
        if route.pattern is not None:
            try:
                re.compile(route.pattern)
            except re.error as error:
                yield (*key, "pattern"), f"is no regular expression: {error}"
        yield from _provider((*key, "provider"), route.provider, tables)
        for i, target in enumerate(route.fallbacks):
            yield from _target((*key, "fallbacks", i), target, tables)
    yield from _twice("routes", "name", (route.name for route in tables.routes))


def _tiers(tables: ConfigTables) -> Iterator[tuple[Key, str]]:
    for name, tier in tables.tiers.items():
        key = ("tiers", name)
        for i, target in enumerate(tier.targets):
            if target in tables.tiers:
                yield (*key, "targets", i), "is a tier; name the models that it has"
            yield from _target((*key, "targets", i), target, tables)
        given = len(tier.weights) if tier.weights is not None else len(tier.targets)
        if given != len(tier.targets):
            yield (*key, "weights"), f"has {given} for {len(tier.targets)} targets"
        if (tier.choice == "weighted") != (tier.weights is not None):
            yield (*key, "choice"), 'and weights belong together: choice = "weighted"'


def _provider(key: Key, name: str, tables: ConfigTables) -> Iterator[tuple[Key, str]]:
    if name not in tables.providers and name not in LOCAL:
        yield key, f"is {name!r}, but there is no such provider{_known(name, tables.providers)}"


def _target(key: Key, target: str, tables: ConfigTables) -> Iterator[tuple[Key, str]]:
    """Check a target that names a provider which looks misspelled; a model may be named anyhow."""
    name, slash, _ = target.partition("/")
    if slash and name not in tables.providers and name not in LOCAL:
        near = get_close_matches(name, tables.providers, 1)
        if near:
            yield key, f"is {target!r}; did you mean {near[0]}?"


def _known(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(name, names, 1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(names)} and local" if names else "; there is local alone"


def _twice(table: str, key: str, values: Iterable[str | None]) -> Iterator[tuple[Key, str]]:
    each = list(values)
    counted = Counter(each)
    for at, value in enumerate(each):
        if value is not None and counted[value] > 1 and value in each[:at]:
            yield (table, at, key), f"is {value!r}, which another one has already"
