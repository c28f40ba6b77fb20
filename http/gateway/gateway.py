"""What requests share on their way to other servers, or to this one's models by other names."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from ...translate.chat import Usage
from ..message import HttpRequest
from .auto_router import AutoRouter
from .budgets import Budgets
from .cascade import Cascade
from .catalog import Catalog
from .routing import Decision, Method, Router, Target


@dataclass(frozen=True, slots=True)
class Gateway:
    """The names that lead somewhere, the health of targets, what callers may ask and have spent."""

    router: Router
    budgets: Budgets | None = None
    auto: AutoRouter | None = None
    cascade: Cascade = field(default_factory=Cascade)
    catalog: Catalog | None = None
    decisions: Counter[Method] = field(default_factory=Counter)  # made since the start

    async def decide(self, name: str, request: HttpRequest, path: str, body: bytes) -> Decision:
        """Return where a request goes. Raises Refusal."""
        if self.auto is None or not self.auto.reads(name):
            return self.router.decide(name)
        route, why = await self.auto.choose(path, body, request.caller)
        decision = self.router.decide(name, route)
        return replace(decision, steps=(why, *decision.steps))

    def check(self, caller: str, model: str, target: Target) -> None:
        """Raise Refusal where a caller may not ask for a model."""
        if self.budgets is not None:
            self.budgets.check(caller, model, target)

    def spending(self, caller: str, target: Target) -> Callable[[Usage], None] | None:
        """Return what is to be told an answer's tokens, if its caller's are counted."""
        if self.budgets is None or not self.budgets.name(caller):
            return None
        return partial(self.budgets.spent, caller, target)

    def counted(self, decision: Decision) -> None:
        self.decisions[decision.method] += 1
