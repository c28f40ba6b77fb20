"""Our kernels by the worst arithmetic that Apple's documents allow: their own tests still hold.

The cases are those of the mutation test, a few of each file, of small shapes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import pytest

from bessemer.kernels.metal import library
from bessemer.kernels.metal.device import Simulator, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.metal.source import metal_files
from bessemer.kernels.simulator.registers import most_threads

from .metal_cases import Case
from .mutants import all_cases

EACH = 1  # cases of a file
LARGE = 384  # threads of a threadgroup that any kernel may have


def chosen() -> list[Case]:
    """Return the first cases of each file."""
    seen = Counter[str]()
    cases = []
    for case in all_cases():
        seen[case.file] += 1
        if seen[case.file] <= EACH:
            cases.append(case)
    return cases


CASES = chosen()


@pytest.fixture
def apple_like(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let whatever a test simulates be computed in that way."""
    simulated = library._simulated

    def worst(kernel: Any, where: Simulator) -> Any:
        options = replace(where.options, mode="fast", apple_like=True)
        return simulated(kernel, replace(where, options=options))

    monkeypatch.setattr(library, "_simulated", worst)
    with using(Simulator()):
        yield


@pytest.mark.usefixtures("apple_like")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file} {case.name}")
def test_the_own_test_holds(case: Case) -> None:
    with watching() as launches:
        case.run()
    for launch in launches:
        if prod(launch.threadgroup) > LARGE:
            assert prod(launch.threadgroup) <= most_threads(launch.code())


def test_every_file_that_computes_has_a_case() -> None:
    in_others = {"gather_pages.metal", "prefill_attention.metal"}  # in the case of append_pages
    assert set(metal_files()) - {case.file for case in CASES} == in_others
