"""The byte plan of a model, settled before anything is allocated: weights, KV pool, scratch."""

from msgspec import Struct

POOLED_CONTEXTS = 4  # full conversations that the automatic pool holds, where memory allows


class DoesNotFit(ValueError):
    """A model does not fit in what it was given; the message names the numbers and the remedy."""


class Plan(Struct, frozen=True):
    """All in bytes but `pages` and `context` (tokens: the longest prompt and answer together)."""

    budget: int
    weights: int
    working: int
    page: int
    pages: int
    context: int

    @property
    def pool(self) -> int:
        return self.page * self.pages

    def __str__(self) -> str:
        parts = [
            f"weights {size(self.weights)}",
            f"KV pool {size(self.pool)} ({self.pages} pages of {size(self.page)})",
            f"working memory about {size(self.working)}",
        ]
        return f"{', '.join(parts)}; budget {size(self.budget)}; context {self.context} tokens"


def size(count: float) -> str:
    """Bytes for people: 1.5 GB."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def plan(
    *,
    budget: int,
    weights: int,
    working: int,
    page: int,
    page_tokens: int,
    context: int,
    pool: int = 0,
) -> Plan:
    """How many pages there will be: `pool` bytes of them, or as many as use and budget suggest.

    Automatic: enough for a few full contexts, at most half of what the weights leave. Raises
    DoesNotFit where not even a short conversation would fit.
    """
    left = budget - weights - working
    wanted = pool or min(POOLED_CONTEXTS * context * page // page_tokens, left // 2)
    pages = max(wanted, 0) // page
    if (not pool and left <= 0) or pages * page_tokens < min(context, 8 * page_tokens):
        raise DoesNotFit(
            f"the model needs {size(weights)} for weights, about {size(working)} to work in and at "
            f"least {size(8 * page)} for its KV pool, but it was given {size(budget)}; choose a "
            "smaller model, or set --kv-cache if you know better"
        )
    return Plan(budget, weights, working, page, pages, min(context, pages * page_tokens))
