"""Interleaved rounds: every contestant once in each, in rotating order, nothing beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bessemer.bench.compare.contest import About, Case, CaseFailed, Contestant, Measure
from bessemer.bench.compare.floor import Floors
from bessemer.bench.compare.stats import rotated

# A first, small measurement tells how much of a case fits in a budget of time.
PROBES = {"decode": 4, "prefill": 16, "batch": 2}

Tell = Callable[[str, int, int], None]


@dataclass(slots=True)
class RoundResults:
    """One entry a round of `measures`, by case and label; None where that measurement failed."""

    abouts: list[About] = field(default_factory=list)
    measures: dict[tuple[str, str], list[Measure | None]] = field(default_factory=dict)
    floors: list[Floors] = field(default_factory=list)
    troubles: dict[tuple[str, str], str] = field(default_factory=dict)  # label and case, or ""
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def samples(self, case: str, label: str, metric: str) -> list[float | None]:
        rounds = self.measures.get((case, label), [])
        return [None if each is None else each.values.get(metric) for each in rounds]


@dataclass(frozen=True, slots=True)
class Terms:
    """The number of rounds, seconds for one measurement, and the floor to measure each round."""

    rounds: int
    budget: float
    seed: int
    floor: Callable[[], Floors] | None = None


def run(
    contestants: Sequence[Contestant], cases: Sequence[Case], terms: Terms, tell: Tell
) -> RoundResults:
    """Measure all cases; a first round warms up and is not counted. Who fails leaves the case."""
    results = RoundResults()
    total = (terms.rounds + 1) * len(cases) * len(contestants)
    try:
        ready = _started(contestants, results, tell, total)
        planned: dict[tuple[str, str], Case] = {}
        for round_ in range(terms.rounds + 1):
            for number, case in enumerate(cases):
                for place, contestant in enumerate(rotated(ready, round_)):
                    done = (round_ * len(cases) + number) * len(contestants) + place
                    tell(_progress(round_, terms.rounds, case, contestant), done, total)
                    # No prompt comes twice, or a prefix cache would know it.
                    seed = terms.seed + (round_ * len(cases) + number) * 1000
                    _measure(contestant, case, seed, bool(round_), terms, planned, results)
            if round_ and terms.floor is not None:
                done = (round_ + 1) * len(cases) * len(contestants)
                tell(f"round {round_} of {terms.rounds}: the machine's floor", done, total)
                results.floors.append(terms.floor())
        tell("done", total, total)
    finally:
        for contestant in contestants:
            contestant.close()
    return results


def _started(
    contestants: Sequence[Contestant], results: RoundResults, tell: Tell, total: int
) -> list[Contestant]:
    ready = []
    for contestant in contestants:
        tell(f"{contestant.label} loads", 0, total)
        try:
            results.abouts.append(contestant.start())
            ready.append(contestant)
        except CaseFailed as failure:
            results.troubles[contestant.label, ""] = str(failure)
    return ready


def _progress(round_: int, rounds: int, case: Case, contestant: Contestant) -> str:
    where = f"round {round_} of {rounds}" if round_ else "warm-up"
    return f"{where}: {case.name}, {contestant.label}"


def _measure(
    contestant: Contestant,
    case: Case,
    seed: int,
    counts: bool,
    terms: Terms,
    planned: dict[tuple[str, str], Case],
    results: RoundResults,
) -> None:
    key = case.name, contestant.label
    if (contestant.label, case.name) in results.troubles:
        return
    try:
        if key not in planned:
            planned[key] = _affordable(contestant, case, terms, results)
        measure = contestant.measure(planned[key], seed)
    except CaseFailed as failure:
        results.troubles[contestant.label, case.name] = str(failure)
        results.measures.pop(key, None)
        return
    if counts:
        results.measures.setdefault(key, []).append(measure)
        notes = results.notes.setdefault(key, [])
        notes += [note for note in measure.notes if note not in notes]


def _affordable(contestant: Contestant, case: Case, terms: Terms, results: RoundResults) -> Case:
    """Return the case, with fewer tokens where all of them would take longer than the budget."""
    probe = PROBES.get(case.benchmark, 0)
    if not probe or probe >= case.tokens or not terms.budget:
        return case
    speed = contestant.measure(replace(case, tokens=probe), terms.seed).values["speed"]
    fits = int(speed * terms.budget / case.streams)
    if fits >= case.tokens:
        return case
    tokens = max(fits, probe)
    note = f"cut to {tokens} of {case.tokens} tokens by --budget"
    results.notes.setdefault((case.name, contestant.label), []).append(note)
    return replace(case, tokens=tokens)


def aligned(rounds: int, samples: Sequence[float | None]) -> list[float | None]:
    """Return one entry a round, also of what was never measured."""
    return [*samples, *[None] * (rounds - len(samples))]


def labels(results: RoundResults) -> Mapping[str, About]:
    return {about.label: about for about in results.abouts}
