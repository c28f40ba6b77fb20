"""The byte plan of a model, made before they are allocated: weights, KV pool, scratch, program."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from .cache_sizes import CacheSizes, max_held

POOLED_CONTEXTS = 4  # full conversations that the automatic pool holds, where memory allows
SPARE = 8  # sequences beyond those that run, whose windows stay to be found again
MIN_STATES = 2  # one to work on, one to go on from
IDLE_STATES = 63  # states that stay to be found again, where memory allows
SHORTEST = 8  # pages of a short conversation


class DoesNotFit(ValueError):
    """A model does not fit in what it was given; the message names the numbers and the remedy."""


class Windowed(Struct, frozen=True):
    """The pages of the layers that see no more than `window` tokens."""

    window: int
    page: int  # bytes
    pages: int


class Plan(Struct, frozen=True):
    """The use of a model's memory, in bytes, with counts of pages and states.

    `context` is in tokens: the longest prompt and answer together. `page` and `pages` are those of
    full attention, if any; `state` is what all layers' recurrent states of one sequence take, of
    which there are `states` and a null one. `program` is what the process takes besides: Python,
    libraries, a tokenizer, requests; 0 where it is not the model's own.
    """

    budget: int
    weights: int
    working: int
    page: int
    pages: int
    context: int
    windows: tuple[Windowed, ...] = ()
    state: int = 0
    states: int = 0
    program: int = 0

    @property
    def pool(self) -> int:
        windows = sum(each.page * each.pages for each in self.windows)
        state_slots = self.states + 1 if self.state else 0
        return self.page * self.pages + windows + self.state * state_slots

    @property
    def sizes(self) -> CacheSizes:
        full = [(None, self.pages)] if self.page else []
        groups = [*full, *((each.window, each.pages) for each in self.windows)]
        return CacheSizes(tuple(g[0] for g in groups), tuple(g[1] for g in groups), self.states)

    def __str__(self) -> str:
        pool = [f"KV pool {size(self.pool)} ({', '.join(self._pooled())})"] if self.pool else []
        parts = [
            f"weights {size(self.weights)}",
            *pool,
            f"working memory about {size(self.working)}",
            *([f"program about {size(self.program)}"] if self.program else []),
        ]
        return f"{', '.join(parts)}; budget {size(self.budget)}; context {self.context} tokens"

    def _pooled(self) -> list[str]:
        full = [f"{self.pages} pages of {size(self.page)}"] if self.page else []
        windows = [
            f"{each.pages} pages of {size(each.page)} for windows of {each.window} tokens"
            for each in self.windows
        ]
        states = [f"{self.states} states of {size(self.state)}"] if self.state else []
        return [*full, *windows, *states]


def size(count: float) -> str:
    """Write a number of bytes for people: 1.5 GB."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def plan_memory(
    *,
    budget: int,
    weights: int,
    working: int,
    page: int,
    page_tokens: int,
    context: int,
    pool: int = 0,
    windows: Sequence[tuple[int, int]] = (),
    state: int = 0,
    batch: int = 64,
    chunk: int = 256,
    one_answer: bool = False,
    program: int = 0,
) -> Plan:
    """Plan the pages and states: `pool` bytes of them, or as many as use and budget suggest.

    `page`, and that of each (window, page), in bytes; `state` too, of one sequence; batch and chunk
    as in Limits. Automatic: enough for a few full contexts, at most half of what the weights leave.
    Windows get no more pages than running sequences need and a few more; states half of the bytes
    at most. `one_answer` takes one context, and nothing stays to be found again. Raises DoesNotFit
    where not even a short conversation would fit.
    """
    spare, idle_states = (0, MIN_STATES - batch) if one_answer else (SPARE, IDLE_STATES)
    groups = _Groups(page, page_tokens, tuple(windows), batch + spare, chunk)
    pools = _Pools(groups, context, state, batch + 1 + idle_states)
    left = budget - weights - working - program
    max_pages = -(-(1 if one_answer else POOLED_CONTEXTS) * context // page_tokens)
    pool_bytes = pool or min(groups.cost(max_pages) + pools.max_slots * state, left // 2)
    if (not pool and left <= 0) or not pools.hold(pool_bytes):
        least = size(rounded_up(pools.least))
        raise DoesNotFit(
            f"--kv-cache is {size(pool)}, but this model needs at least {least}"
            if pool
            else f"the model needs {size(weights)} for weights, about {size(working)} to work in "
            f"and at least {least} for its KV pool{beside(program)}, but it was given "
            f"{size(budget)}; choose a smaller model, or set --kv-cache if you know better"
        )
    pages = pools.pages(pool_bytes) if pool else min(max_pages, pools.pages(pool_bytes))
    return Plan(
        budget,
        weights,
        working,
        page,
        pages if page else 0,
        groups.context(pages, context),
        groups.plans(pages),
        state,
        max(pools.slots(pool_bytes) - 1, 0),
        program,
    )


def beside(program: int) -> str:
    """Say what the program takes, after what the model needs."""
    return f", besides about {size(program)} for the program" if program else ""


def rounded_up(count: int) -> int:
    """Return no less in as many digits as `size` shows."""
    unit = int(10 ** max(len(str(count)) - 3, 0))
    return -(-count // unit) * unit


@dataclass(frozen=True, slots=True)
class _Groups:
    """The cache groups: windows get their pages by the number of those of full attention."""

    page: int
    page_tokens: int
    windows: tuple[tuple[int, int], ...]
    sequences: int
    chunk: int

    @property
    def held(self) -> list[int]:
        """Count the pages of each window that one sequence holds at most."""
        return [max_held(window, self.chunk, self.page_tokens) for window, _ in self.windows]

    def windowed(self, pages: int) -> list[int]:
        return [min(pages, self.sequences * each) for each in self.held]

    def plans(self, pages: int) -> tuple[Windowed, ...]:
        pairs = zip(self.windows, self.windowed(pages), strict=True)
        return tuple(Windowed(window, page, count) for (window, page), count in pairs)

    def cost(self, pages: int) -> int:
        return self.page * pages + sum(each.page * each.pages for each in self.plans(pages))

    def fitting(self, size: int) -> int:
        """Count the pages for which `size` bytes are enough; windows alone have a maximum."""
        if size < 0:
            return 0
        limit = size // self.page if self.page else self.sequences * max(self.held, default=0)
        return bisect_right(range(limit + 1), size, key=self.cost) - 1

    def context(self, pages: int, longest: int) -> int:
        """Count the tokens of a sequence that fit whatever else runs, `longest` at most."""
        counts = [pages * self.page_tokens] if self.page else []
        for count, held in zip(self.windowed(pages), self.held, strict=True):
            counts += [count * self.page_tokens] if count < held else []
        return min([longest, *counts])


@dataclass(frozen=True, slots=True)
class _Pools:
    """What pools of so many bytes hold: slots of states first, and pages of all groups."""

    groups: _Groups
    longest: int  # the model's context
    state: int
    max_slots: int

    def slots(self, pool: int) -> int:
        if not self.state:
            return 0
        paged = self.groups.page or self.groups.windows
        share = pool // 2 if paged else pool
        return min(max(share // self.state, MIN_STATES + 1), self.max_slots)

    def pages(self, pool: int) -> int:
        return self.groups.fitting(pool - self.slots(pool) * self.state)

    def hold(self, pool: int) -> bool:
        """Say whether a pool is enough for a short conversation."""
        if self.slots(pool) * self.state > pool:
            return False
        shortest = min(self.longest, SHORTEST * self.groups.page_tokens)
        return self.groups.context(self.pages(pool), self.longest) >= shortest

    @property
    def least(self) -> int:
        """The bytes of the smallest pool that is enough."""
        enough = 2 * (self.groups.cost(SHORTEST) + (MIN_STATES + 1) * self.state)
        return bisect_left(range(enough), True, key=self.hold)
