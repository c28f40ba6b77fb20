"""What tokens cost, by a configuration's prices."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from ...translate.chat import Usage
from .routing import Target
from .schema import PriceTable

MILLION = 1e6


def price_of(target: Target, prices: Mapping[str, PriceTable]) -> PriceTable | None:
    """Return a target's price: by its exact name, else by the longest pattern that fits."""
    name = str(target)
    if name in prices:
        return prices[name]
    fitting = [pattern for pattern in prices if fnmatchcase(name, pattern)]
    return prices[max(fitting, key=len)] if fitting else None


def cost(usage: Usage, price: PriceTable) -> float:
    """Return what an answer cost: tokens that a cache held, or was given, at their own prices."""
    created = usage.created or 0
    fresh = max(usage.prompt - usage.cached - created, 0)
    held = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    whole = fresh * price.input + usage.cached * held + created * written
    return (whole + usage.completion * price.output) / MILLION
