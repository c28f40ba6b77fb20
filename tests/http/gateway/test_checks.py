"""What no key can say by itself; the mistakes of whole files are in test_config_file.py."""

import pytest

from bessemer.http.gateway.checks import check
from bessemer.http.gateway.schema import (
    AutoRouterTable,
    ConfigTables,
    DefaultTable,
    ModelTable,
    ProviderTable,
    RouteTable,
    TierTable,
)

THERE = {"there": ProviderTable(url="http://a")}


def problem(**tables: object) -> str | None:
    """Return the first problem of tables, with the provider `there` unless they name others."""
    said: list[str] = []

    def mistake(key: tuple[str | int, ...], text: str) -> Exception:
        said.append(f"{key} {text}")
        return ValueError(text)

    values: dict[str, object] = {"providers": THERE, **tables}
    try:
        check(ConfigTables(**values), mistake)  # type: ignore[arg-type]
    except ValueError:
        return said[0]
    return None


@pytest.mark.parametrize("local", ["local", "bessemer", "higgs"])
def test_local_models_go_by_three_names_that_no_provider_may_have(local: str) -> None:
    assert problem(default=DefaultTable(provider=local)) is None
    assert problem(routes=[RouteTable(pattern="a", provider=local)]) is None
    assert "may not be called" in str(problem(providers={local: THERE["there"]}))


def test_an_auto_router_needs_a_route_with_a_description() -> None:
    route = RouteTable(name="a", description="b", provider="there")
    for on in (AutoRouterTable(enabled=True), AutoRouterTable(force=True)):
        assert "none has one" in str(problem(auto_router=on))
        assert problem(auto_router=on, routes=[route]) is None
    assert problem(auto_router=AutoRouterTable()) is None


def test_a_target_may_be_any_model_but_no_provider_s_misspelled() -> None:
    for target in ("there/a/b", "local/x", "org/model", "x"):
        assert problem(aliases={"a": target}) is None
        assert problem(tiers={"t": TierTable(targets=[target])}) is None
    assert problem(aliases={"a": "tere/x"}) == "('aliases', 'a') is 'tere/x'; did you mean there?"
    routes = [RouteTable(pattern="a", provider="there", fallbacks=["x", "tere/x"])]
    assert str(problem(routes=routes)).startswith("('routes', 0, 'fallbacks', 1) is 'tere/x'")


@pytest.mark.parametrize("name", ["a/b", "a=b", "a b", "a\n"])
def test_a_model_s_name_is_what_a_flag_can_say(name: str) -> None:
    said = str(problem(models=[ModelTable(path="p", name=name)]))
    assert said.startswith("('models', 0, 'name') may hold no slash")
    assert problem(models=[ModelTable(path="p", name="a-b:c.d")]) is None


def test_weights_and_choice_belong_together() -> None:
    weighted = TierTable(targets=["a", "b"], weights=[1, 2], choice="weighted")
    assert problem(tiers={"t": weighted}) is None
    for half in (
        TierTable(targets=["a", "b"], weights=[1, 2]),
        TierTable(targets=["a", "b"], choice="weighted"),
    ):
        assert "belong together" in str(problem(tiers={"t": half}))
