"""What answers cost."""

import pytest

from bessemer.http.gateway.prices import cost, price_of
from bessemer.http.gateway.routing import Target
from bessemer.http.gateway.schema import PriceTable
from bessemer.translate.chat import Usage

ALL, MINI, EXACT = (PriceTable(input=1, output=each) for each in (1, 2, 3))
PRICES = {"openai/*": ALL, "openai/gpt-*": MINI, "openai/gpt-5[x]": EXACT}


@pytest.mark.parametrize(
    ("model", "price"), [("o3", ALL), ("gpt-5", MINI), ("gpt-5[x]", EXACT), ("gpt-5x", EXACT)]
)
def test_the_exact_name_wins_then_the_longest_pattern(model: str, price: PriceTable) -> None:
    assert price_of(Target("openai", model), PRICES) is price


def test_others_have_no_price() -> None:
    assert price_of(Target("other", "gpt-5"), PRICES) is None
    assert price_of(Target(None, "gpt-5"), PRICES) is None
    assert price_of(Target(None, "x"), {"local/*": ALL}) is ALL


def test_cached_tokens_and_those_written_to_a_cache_have_their_own_prices() -> None:
    usage = Usage(1000, 100, cached=300, created=200)
    plain = PriceTable(input=2, output=10)
    assert cost(usage, plain) == pytest.approx((1000 * 2 + 100 * 10) / 1e6)
    full = PriceTable(input=2, output=10, cached_input=0.5, cache_write=2.5)
    assert cost(usage, full) == pytest.approx((500 * 2 + 300 * 0.5 + 200 * 2.5 + 100 * 10) / 1e6)
    assert cost(Usage(1000, 0, cached=300), full) == pytest.approx((700 * 2 + 300 * 0.5) / 1e6)
