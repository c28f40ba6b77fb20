"""Few combinations of settings in which any two values of any two of them meet."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

Choice = tuple[int, int]  # the number of a setting, and of its value


def pairs(settings: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield combinations by name until every two values have met; the same ones every time."""
    counts = list(map(len, settings.values()))
    left = {
        frozenset(((i, a), (j, b)))
        for i, j in combinations(range(len(counts)), 2)
        for a in range(counts[i])
        for b in range(counts[j])
    }
    while left:
        chosen: dict[int, int] = dict(min(left, key=sorted))
        for i in range(len(counts)):
            if i not in chosen:
                new = [_meetings((i, a), chosen, left) for a in range(counts[i])]
                chosen[i] = new.index(max(new))
        left -= {frozenset(pair) for pair in combinations(chosen.items(), 2)}
        each = enumerate(settings.items())
        yield {name: values[chosen[i]] for i, (name, values) in each}


def _meetings(choice: Choice, chosen: Mapping[int, int], left: "set[frozenset[Choice]]") -> int:
    """Count the pairs that a choice would add."""
    return sum(frozenset((choice, other)) in left for other in chosen.items())
