"""What requests share; whole requests are in test_dispatch.py."""

import asyncio
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.body import Body
from bessemer.http.gateway.gateway import Gateway
from bessemer.http.gateway.routing import Router, Target
from bessemer.http.gateway.schema import ConfigTables, RouteTable
from bessemer.http.message import HttpRequest
from bessemer.translate.chat import Usage

ROUTE = RouteTable(name="code", description="Programs.", provider="local", model="coder")
TABLES = ConfigTables(routes=[ROUTE])
REQUEST = HttpRequest("POST", "/", "", (), Body(), "127.0.0.1", "id", "caller")
TARGET = Target(None, "own")


class Auto:
    """Chooses the one route, for requests of one name."""

    def reads(self, name: str) -> bool:
        return name == "auto"

    async def choose(self, path: str, body: bytes, caller: str) -> tuple[RouteTable, str]:
        assert (path, body, caller) == ("/path", b"body", "caller")
        return ROUTE, "it is about programs"


def decide(gateway: Gateway, name: str) -> Any:
    return asyncio.run(gateway.decide(name, REQUEST, "/path", b"body"))


def test_the_auto_router_is_asked_for_what_it_reads_alone() -> None:
    gateway = Gateway(Router(TABLES, ["own"]), auto=Auto())  # type: ignore[arg-type]
    decision = decide(gateway, "auto")
    assert (decision.method, decision.targets) == ("auto", (Target(None, "coder"),))
    assert decision.steps[0] == "it is about programs"
    assert decide(gateway, "own").method == "local"
    assert decide(Gateway(Router(TABLES, ["own"])), "auto").method == "default"


class Budgets:
    """Knows one caller, who may ask one model."""

    spent_of: list[tuple[str, Target, Usage]]

    def __init__(self) -> None:
        self.spent_of = []

    def name(self, caller: str) -> str:
        return "alice" if caller == "caller" else ""

    def check(self, caller: str, model: str, target: Target) -> None:
        if model != "own":
            raise Refusal(403, "model_not_allowed", "No.")

    def spent(self, caller: str, target: Target, usage: Usage) -> None:
        self.spent_of.append((caller, target, usage))


def test_only_who_has_a_budget_is_counted_and_checked() -> None:
    free = Gateway(Router(TABLES, ["own"]))
    free.check("caller", "any", TARGET)
    assert free.spending("caller", TARGET) is None
    budgets = Budgets()
    gateway = Gateway(Router(TABLES, ["own"]), budgets)  # type: ignore[arg-type]
    gateway.check("caller", "own", TARGET)
    with pytest.raises(Refusal):
        gateway.check("caller", "other", TARGET)
    assert gateway.spending("nobody", TARGET) is None
    spent = gateway.spending("caller", TARGET)
    assert spent is not None
    spent(Usage(1, 2))
    assert budgets.spent_of == [("caller", TARGET, Usage(1, 2))]


def test_decisions_are_counted_by_their_method() -> None:
    gateway = Gateway(Router(TABLES, ["own"]))
    for name in ("own", "own", "auto"):
        gateway.counted(decide(gateway, name))
    assert gateway.decisions == {"local": 2, "default": 1}
