"""Works with faults in them, for the tests of the report: each runs in a process of its own."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp

from bessemer.bench.kernels.workload import Demand, Workload
from bessemer.bench.report import figures, kernels, models
from bessemer.bench.report.finding import How, Item, Outcome
from bessemer.kernels.metal import library
from bessemer.kernels.metal.source import metal_files

NORM = "rms_norm.metal"


def changed(old: str, new: str) -> None:
    """From now on rms_norm is compiled from another text."""
    path = Path(mkdtemp()) / NORM
    text = metal_files()[NORM].read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    library.metal_files = lambda: metal_files() | {NORM: path}  # type: ignore[attr-defined]


def compile_error(part: str, how: How) -> Iterator[Item]:
    changed("simd_sum(sum)", "simd_sam(sum)")
    return islice(kernels.verify(part, how), 2)


def wrong(part: str, how: How) -> Iterator[Item]:
    """The last thread of a row forgets its gain."""
    changed("factor * gains[j]", "(i + COUNT >= width ? factor : factor * gains[j] + 1.0f)")
    return islice(kernels.verify(part, how), 1)


def race(part: str, how: How) -> Iterator[Item]:
    """A row's sums are read before all of them are there; only wide rows have more than one."""
    changed("  threadgroup_barrier(mem_flags::mem_threadgroup);\n", "")
    return islice(kernels.repeat(part, how), 4, 5)


def endless(part: str, how: How) -> Iterator[Item]:
    """The first item never ends, the others do."""
    yield "endless", partial(time.sleep, 3600)  # type: ignore[misc]
    yield "after it", Outcome


def crashes(part: str, how: How) -> Iterator[Item]:
    print("what prints is no finding")
    yield "before", Outcome
    yield "crash", partial(os.kill, os.getpid(), signal.SIGSEGV)  # type: ignore[misc]
    yield "bug", lambda: Outcome(details={"key": {}["missing"]})
    yield "raised", raising
    yield "after", partial(Outcome, "figure", "7")


def raising() -> Outcome:
    raise RuntimeError("[metal] it is full")


def broken(part: str, how: How) -> Iterator[Item]:
    raise KeyError(part)


def slow(part: str, how: How) -> Iterator[Item]:
    for number in range(1000):
        yield f"number {number}", partial(_slow, number)


def _slow(number: int) -> Outcome:
    time.sleep(0.05)
    return Outcome(details={"process": os.getpid()})


def forgets(part: str, how: How) -> Iterator[Item]:
    """A device that does not keep to writing in place."""
    models.self_test = lambda steps: False  # type: ignore[attr-defined]
    return models.patterns(part, how)


def other_answers(part: str, how: How) -> Iterator[Item]:
    """A model that says something else on the device than on the CPU."""
    real = models.answer

    def answer(asked, settings):  # type: ignore[no-untyped-def]
        tokens, decode = real(asked, settings)
        if settings.cpu_precision != "exact":
            tokens[0][2] += 1
        return tokens, decode

    models.answer, models.TOKENS = answer, 4  # type: ignore[assignment, misc]
    return islice(models.answers(part, how), 1)


def other_logits(part: str, how: How) -> Iterator[Item]:
    """One golden checkpoint, every row of which differs by one more than it does."""
    first = next(models.golden(part, how))
    feeding = sys.modules["tests.architectures.test_metal"]
    real = feeding.differences
    feeding.differences = lambda *each: [error + 1 for error in real(*each)]  # type: ignore[attr-defined]
    yield first


def no_bench(part: str, how: How) -> Iterator[Item]:
    figures.COMMANDS = {part: (("decode", "--shape", "nobody's"), False)}  # type: ignore[misc]
    return figures.bench(part, How())


def trials(part: str, how: How) -> Iterator[Item]:
    return islice(kernels.trials(part, how), 2)


def wrong_trials(part: str, how: How) -> Iterator[Item]:
    """Every result is twice what it should be."""
    real = kernels.workloads

    def doubled(name: str, demand: Demand) -> Iterator[Workload]:
        for each in real(name, demand):
            yield replace(each, call=lambda each=each: [2 * x for x in each.call()])  # type: ignore[misc]

    kernels.workloads = doubled
    return islice(kernels.trials(part, how), 1)
