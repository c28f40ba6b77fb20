"""Where names lead, in the order of the specification (H4)."""

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.gateway.routing import Decision, Router, Target, short_of
from bessemer.http.gateway.schema import (
    ConfigTables,
    DefaultTable,
    ProviderTable,
    RouteTable,
    TierTable,
)

PROVIDERS = {name: ProviderTable(url="http://a") for name in ("openai", "anthropic", "router")}
TABLES = ConfigTables(
    providers=PROVIDERS,
    aliases={"gpt-4": "own", "quick": "fast", "big": "router/openai/gpt-big", "own": "openai/x"},
    routes=[
        RouteTable(pattern="own|laude-", provider="anthropic", name="first"),
        RouteTable(pattern="claude-2", provider="openai", model="gpt-2"),
        RouteTable(pattern="^here", provider="higgs"),
        RouteTable(
            pattern="^there", provider="local", model="org/Loc", fallbacks=["openai/y", "own"]
        ),
        RouteTable(name="code", description="Programs.", provider="openai", model="coder"),
    ],
    tiers={"fast": TierTable(targets=["own", "openai/mini"], temperature=0.5, lossy=True)},
)  # fmt: skip
LOCAL = ["own", "org/Loc", "openai/taken"]
LISTED = {"openai": ["gpt-5", "both"], "router": ["both"]}


def decide(name: str, tables: ConfigTables = TABLES) -> Decision:
    return Router(tables, LOCAL, LISTED).decide(name)


@pytest.mark.parametrize(
    ("name", "method", "targets"),
    [
        ("own", "local", "local/own"),  # H4.1: before the alias and the pattern of the same name
        ("openai/taken", "local", "local/openai/taken"),
        ("fast", "tier", "local/own, openai/mini"),
        ("gpt-4", "alias", "local/own"),
        ("quick", "alias", "local/own, openai/mini"),
        ("big", "alias", "router/openai/gpt-big"),
        ("my-claude-2", "pattern", "anthropic/my-claude-2"),  # H4.2: found anywhere, first wins
        ("here-x", "pattern", "local/here-x"),  # H4.3
        ("there", "pattern", "local/org/Loc, openai/y, local/own"),
        ("openai/a/b", "provider", "openai/a/b"),
        ("gpt-5", "provider", "openai/gpt-5"),
        ("loc", "local", "local/org/Loc"),
    ],
)
def test_h41_names_lead_to_targets_by_the_first_rule_that_fits(
    name: str, method: str, targets: str
) -> None:
    """H4.1, H4.2, H4.3, H4.5."""
    decision = decide(name)
    assert (decision.method, ", ".join(map(str, decision.targets))) == (method, targets)
    assert decision.steps and str(decision) == f"{method} {decision.route}".strip() + f"; {targets}"


def test_what_a_route_or_tier_asks_goes_with_it() -> None:
    assert decide("fast").asked.temperature == decide("quick").asked.temperature == 0.5
    assert decide("fast").lossy and decide("fast").tier and not decide("gpt-5").lossy
    assert decide("xlaude-").route == "first"


def test_h44_the_default_takes_what_is_left_but_no_virtual_name() -> None:
    """H4.4: a local default is any model for `auto`; a name that is none cannot be sent on."""
    remote = ConfigTables(providers=PROVIDERS, default=DefaultTable(provider="openai"))
    decision = decide("zzz", remote)
    assert (decision.method, decision.targets) == ("default", (Target("openai", "zzz"),))
    for virtual in ("auto", ""):
        with pytest.raises(Refusal) as caught:
            decide(virtual, remote)
        assert (caught.value.status, caught.value.field) == (400, "model")
    rewritten = ConfigTables(
        providers=PROVIDERS, default=DefaultTable(provider="openai", model="gpt-d")
    )
    for name in ("zzz", "auto", ""):
        assert decide(name, rewritten).targets == (Target("openai", "gpt-d"),)
    local = ConfigTables(default=DefaultTable(provider="local"))
    assert decide("auto", local).targets == (Target(None, "own"),)
    named = ConfigTables(default=DefaultTable(provider="local", model="org/Loc"))
    assert decide("zzz", named).targets == (Target(None, "org/Loc"),)
    with pytest.raises(Refusal):
        decide("zzz", local)


def test_without_a_default_auto_is_the_first_model_and_so_are_claude_s_helpers() -> None:
    nothing = ConfigTables()
    for name in ("auto", "", "claude-haiku"):
        assert decide(name, nothing).targets == (Target(None, "own"),)
    with pytest.raises(Refusal):
        Router(nothing, []).decide("auto")


def test_the_auto_router_s_choice_comes_first() -> None:
    chosen = TABLES.routes[-1]
    decision = Router(TABLES, LOCAL).decide("own", chosen)
    assert (decision.method, decision.route) == ("auto", "code")
    assert decision.targets == (Target("openai", "coder"),)


def test_h44_a_chosen_route_without_a_model_takes_the_name_where_it_is_one() -> None:
    here = RouteTable(name="here", description="x", provider="local", fallbacks=["openai/y"])
    there = RouteTable(name="there", description="x", provider="openai")
    router = Router(TABLES, LOCAL)
    for virtual in ("auto", ""):
        assert router.decide(virtual, here).targets == (Target(None, "own"), Target("openai", "y"))
        with pytest.raises(Refusal) as caught:
            router.decide(virtual, there)
        assert (caught.value.status, caught.value.field) == (400, "model")
    assert router.decide("org/Loc", here).targets[0] == Target(None, "org/Loc")
    assert router.decide("gpt", there).targets == (Target("openai", "gpt"),)


def test_an_unknown_name_is_told_the_three_nearest() -> None:
    with pytest.raises(Refusal) as caught:
        decide("ou")
    refusal = caught.value
    assert (refusal.status, refusal.code, refusal.field) == (404, "model_not_found", "model")
    nearest = refusal.message.partition("are: ")[2].split(", ")
    assert len(nearest) == 3 and nearest[0] == "own"
    with pytest.raises(Refusal, match=r"this server has: a, b\."):
        Router(ConfigTables(), ["b", "a"]).decide("ou")
    with pytest.raises(Refusal, match=r"no model 'x{200}' here"):
        decide("x" * 10_000)


def test_names_in_short_are_the_last_part_without_its_tag() -> None:
    known = ["org/Plain", "one:small", "two:a", "two:b"]
    for name in ("plain", "PLAIN:latest", "x/plain"):
        assert short_of(name, known) == "org/Plain"
    assert short_of("one", known) == "one:small"
    assert short_of("two", known) is short_of("none", known) is None
