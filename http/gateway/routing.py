"""The way of a request to what answers it: by its model's name, step by step."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from ...engine.request import Refusal
from ...translate.chat import Usage
from .checks import LOCAL
from .schema import NOTHING_ASKED, AskedTable, ConfigTables, RouteTable, TierTable

# How a target was found, as `x-bessemer-route` and metrics tell it.
Method = Literal["local", "tier", "alias", "pattern", "auto", "provider", "default"]
AUTO = "auto"
# Names that Claude Code gives its helpers' models, whatever its user's is: as good as none.
CLAUDE = "claude-"
NEAREST = 3
SHOWN = 200  # characters of a name in a message


@dataclass(frozen=True, slots=True)
class Target:
    """A model of a provider's, or, where that is None, of this server's."""

    provider: str | None
    model: str

    def __str__(self) -> str:
        return f"{self.provider or 'local'}/{self.model}"


@dataclass(frozen=True, slots=True)
class Decision:
    """Targets in the order in which they are asked, and how they were found.

    `asked` is what the request is given on the way, `steps` are sentences for people.
    """

    targets: tuple[Target, ...]
    method: Method
    route: str = ""  # the name of a route or tier
    asked: AskedTable = NOTHING_ASKED
    lossy: bool = False
    tier: TierTable | None = None
    steps: tuple[str, ...] = field(default=(), compare=False)

    @property
    def by(self) -> str:
        return f"{self.method} {self.route}".strip()

    def __str__(self) -> str:
        return f"{self.by}; {', '.join(map(str, self.targets))}"


@dataclass(frozen=True, slots=True)
class Meant:
    """What one attempt at a request is for; `spent`, if anybody counts, is told its tokens."""

    target: Target
    asked: AskedTable = NOTHING_ASKED
    lossy: bool = False
    last: bool = True  # no other target is asked after this one
    spent: Callable[[Usage], None] | None = None


@dataclass(frozen=True, slots=True)
class Router:
    """The names that are known, and where each leads; `local` are this server's models.

    The order: a local model's exact name, a tier's, an alias, the first route whose pattern is
    found in the name, PROVIDER/MODEL or a name that one provider lists, a local model's short
    name, the default; who names none, or one of Anthropic's, gets the first local model. What the
    auto-router chooses comes before all of these.
    """

    tables: ConfigTables
    local: Collection[str]
    listed: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by provider, what it has

    def decide(self, name: str, chosen: RouteTable | None = None) -> Decision:
        """Return where a model's name leads; `chosen` is the auto-router's route.

        Raises Refusal, which names the nearest names, where it leads nowhere.
        """
        steps: list[str] = []
        for found in self._found(name, chosen, steps):
            if found is not None:
                return replace(found, steps=tuple(steps))
        raise self.unknown(name)

    def _found(
        self, name: str, chosen: RouteTable | None, steps: list[str]
    ) -> Iterator[Decision | None]:
        if chosen is not None:
            steps.append(f"the auto-router chose the route {chosen.name}")
            yield self._chosen(chosen, name)
        looks = (self._exact, self._tier, self._alias, self._pattern, self._of_provider)
        for look in (*looks, self._short, self._default, self._first):
            yield look(name, steps)

    def _exact(self, name: str, steps: list[str]) -> Decision | None:
        if name in self.local:
            steps.append(f"{name} is a model of this server's")
            return Decision((Target(None, name),), "local")
        steps.append("no local model has exactly this name")
        return None

    def _tier(self, name: str, steps: list[str]) -> Decision | None:
        tier = self.tables.tiers.get(name)
        if tier is None:
            return None
        steps.append(f"{name} is a tier: {', '.join(tier.targets)}")
        targets = tuple(map(self.target, tier.targets))
        return Decision(targets, "tier", name, tier, tier.lossy, tier)

    def _alias(self, name: str, steps: list[str]) -> Decision | None:
        meant = self.tables.aliases.get(name)
        if meant is None:
            steps.append("no alias has this name")
            return None
        steps.append(f"{name} is an alias of {meant}")
        if found := self._tier(meant, steps):
            return replace(found, method="alias", route=meant)
        return Decision((self.target(meant),), "alias", name)

    def _pattern(self, name: str, steps: list[str]) -> Decision | None:
        for at, route in enumerate(self.tables.routes):
            if route.pattern is not None and name and re.search(route.pattern, name):
                steps.append(f"{route.name or f'route {at}'}: {route.pattern!r} is found in it")
                return self._of_route(route, name, "pattern")
        steps.append(f"none of {len(self.tables.routes)} routes has a pattern that is found in it")
        return None

    def _of_provider(self, name: str, steps: list[str]) -> Decision | None:
        provider, slash, model = name.partition("/")
        if slash and model and provider in self.tables.providers:
            steps.append(f"{provider} is a provider, so {model} is a model of its")
            return Decision((Target(provider, model),), "provider")
        having = [each for each, models in self.listed.items() if name in models]
        if len(having) == 1:
            steps.append(f"{having[0]} lists a model of this name")
            return Decision((Target(having[0], name),), "provider")
        return None

    def _short(self, name: str, steps: list[str]) -> Decision | None:
        found = short_of(name, self.local)
        if found is None:
            return None
        steps.append(f"{found} is the one local model that is called so in short")
        return Decision((Target(None, found),), "local")

    def _default(self, name: str, steps: list[str]) -> Decision | None:
        default = self.tables.default
        if default is None:
            return None
        steps.append(f"the default takes what is left: {default.provider}")
        if default.provider in LOCAL:
            return self._local_default(name, default.model)
        return Decision((_sent(default.provider, default.model or name),), "default")

    def _local_default(self, name: str, model: str | None) -> Decision | None:
        any_will_do = name in ("", AUTO)
        found = model or (next(iter(self.local), None) if any_will_do else None)
        return Decision((Target(None, found),), "default") if found else None

    def _first(self, name: str, steps: list[str]) -> Decision | None:
        if self.local and (name in ("", AUTO) or name.startswith(CLAUDE)):
            first = next(iter(self.local))
            steps.append(f"no model is named, or one of Anthropic's: the first here is {first}")
            return Decision((Target(None, first),), "default")
        return None

    def _chosen(self, route: RouteTable, name: str) -> Decision:
        """Return the decision for a route that may have been chosen for a name that is none."""
        found = self._of_route(route, name, "auto")
        first, *others = found.targets
        if first.provider is not None:
            _sent(first.provider, first.model)
        elif first.model in ("", AUTO) and self.local:
            first = Target(None, next(iter(self.local)))
        return replace(found, targets=(first, *others))

    def _of_route(self, route: RouteTable, name: str, method: Method) -> Decision:
        provider = None if route.provider in LOCAL else route.provider
        first = Target(provider, route.model or name)
        others = tuple(map(self.target, route.fallbacks))
        return Decision((first, *others), method, route.name or "", route, route.lossy)

    def target(self, text: str) -> Target:
        """Return what a configuration's target means: PROVIDER/MODEL, or a local model."""
        provider, slash, model = text.partition("/")
        if slash and text not in self.local:
            if provider in self.tables.providers:
                return Target(provider, model)
            if provider in LOCAL:
                return Target(None, model)
        return Target(None, text)

    def names(self) -> list[str]:
        """Return every name that leads somewhere by itself, in order and once each."""
        listed = (f"{each}/{model}" for each, models in self.listed.items() for model in models)
        return [*dict.fromkeys((*self.local, *self.tables.tiers, *self.tables.aliases, *listed))]

    def unknown(self, name: str) -> Refusal:
        names = self.names()
        near = get_close_matches(name, names, NEAREST, cutoff=0.0)
        message = f"There is no model {name[:SHOWN]!r} here; "
        if len(names) > NEAREST:
            message += f"the nearest of {len(names)} are: {', '.join(near)}."
        else:
            message += f"this server has: {', '.join(sorted(names))}."
        return Refusal(404, "model_not_found", message, "model")


def _sent(provider: str, model: str) -> Target:
    """Return a provider's model. Raises Refusal for a virtual name, of which it has none."""
    if model in ("", AUTO):
        said = f"{model} is no model of" if model else "No model is named, and there is none for"
        raise Refusal(400, "invalid_value", f"{said} {provider}'s; name one.", "model")
    return Target(provider, model)


LATEST = ":latest"  # as good as no tag


def short_of(name: str, known: Collection[str]) -> str | None:
    """Return the one known name whose last part, or that without its tag, is this one's."""
    for part in (_short, _untagged):
        found = [full for full in known if part(full) == _short(name)]
        if len(found) == 1:
            return found[0]
    return None


def _short(name: str) -> str:
    return name.rpartition("/")[2].lower().removesuffix(LATEST)


def _untagged(name: str) -> str:
    return _short(name).partition(":")[0]
