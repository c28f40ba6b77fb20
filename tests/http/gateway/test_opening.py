"""What outlives settings; whole servers are in test_dispatch.py."""

import asyncio
import io
from pathlib import Path

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.config import UsageError
from bessemer.http.gateway.opening import DECODERS, gateways
from bessemer.http.gateway.provider import Provider
from bessemer.http.gateway.routing import Target
from bessemer.http.gateway.schema import (
    AutoRouterTable,
    ConfigTables,
    KeyTable,
    PriceTable,
    ProviderTable,
    RouteTable,
)
from bessemer.http.gateway.settings import GatewaySettings
from bessemer.http.local import Patience
from bessemer.http.log import Log
from bessemer.translate.chat import Usage
from tests.http.toy import ToyBackend

KEYS = {"alice": ("secret", KeyTable(key="secret", budget=1))}
PROVIDERS = {"far": Provider(name="far", url="http://far", models=("m",))}
TABLES = ConfigTables(
    providers={"far": ProviderTable(url="http://far")},
    prices={"*": PriceTable(input=1, output=1)},
    routes=[RouteTable(name="a", description="b", provider="far")],
    auto_router=AutoRouterTable(enabled=True),
)


def test_health_and_choices_and_spending_outlive_settings(tmp_path: Path) -> None:
    path = str(tmp_path / "usage.sqlite")
    settings = GatewaySettings(TABLES, PROVIDERS, KEYS, path)

    async def run() -> None:
        with Log("info", io.BytesIO()) as log:
            async with gateways({"own": ToyBackend("own")}, Patience(), log) as opened:
                first = (await opened.open(settings)).gateway
                second = (await opened.open(settings)).gateway
                assert first.cascade is second.cascade and first is not second
                assert first.auto and second.auto and first.auto.choices is second.auto.choices
                assert second.router.decide("m").targets == (Target("far", "m"),)
                assert first.budgets and second.budgets
                caller = next(iter(first.budgets._clients))
                first.budgets.spent(caller, Target("far", "m"), Usage(10**6, 0))
                with pytest.raises(Refusal, match=r"budget of 1 a month"):
                    second.budgets.admit(caller)
                opened.interrupt(Refusal(503, "x", "x"))

    asyncio.run(run())


def test_nothing_has_changed_where_settings_cannot_be_used(tmp_path: Path) -> None:
    async def run() -> None:
        with Log("info", io.BytesIO()) as log:
            async with gateways({}, Patience(), log) as opened:
                bad = GatewaySettings(TABLES, PROVIDERS, KEYS, str(tmp_path))
                with pytest.raises(UsageError, match="where spending is kept"):
                    await opened.open(bad)
                plain = (await opened.open(GatewaySettings())).gateway
                assert plain.auto is plain.budgets is plain.catalog is None

    asyncio.run(run())


def test_what_the_auto_router_reads() -> None:
    assert {"/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat"} <= {*DECODERS}
    chat = DECODERS["/v1/responses"](b'{"model":"auto","input":"Hi"}')
    assert chat.model == "auto"
