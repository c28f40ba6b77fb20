"""A report on a Mac's GPU: all steps within a time, whatever fails; as JSON and as a page."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bessemer.bench.compare.report import moment
from bessemer.bench.report.finding import Finding, How
from bessemer.bench.report.processes import Tell, run_part
from bessemer.bench.report.steps import Step

SCHEMA = 1
SAVED_EVERY = 10.0  # seconds
LENIENT = 3.0  # times its share of a step that a part may take


@dataclass(slots=True)
class GpuReport:
    """What was found so far; `interrupted` says that somebody had enough of it."""

    how: How
    minutes: float
    steps: Sequence[Step]
    when: str = field(default_factory=moment)
    findings: list[Finding] = field(default_factory=list)
    interrupted: bool = False

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_fine]

    def of(self, step: Step) -> list[Finding]:
        return [finding for finding in self.findings if finding.step == step.name]

    def counts(self, step: Step) -> Counter[str]:
        return Counter(finding.state for finding in self.of(step))

    def as_json(self) -> str:
        about = {
            "schema": SCHEMA,
            "when": self.when,
            "simulated": self.how.simulated,
            "minutes": self.minutes,
            "interrupted": self.interrupted,
            "steps": {step.name: step.title for step in self.steps},
        }
        return json.dumps(about | {"findings": [asdict(each) for each in self.findings]}, indent=1)


def make(
    report: GpuReport, tell: Callable[[str, int, int], None], save: Callable[[], None]
) -> None:
    """Run all steps; `save` is called now and then, so that little is lost however it ends."""
    began = saved = time.monotonic()
    for finding in _findings(report, began, tell):
        report.findings.append(finding)
        if time.monotonic() - saved > SAVED_EVERY:
            save()
            saved = time.monotonic()


def _findings(
    report: GpuReport, began: float, tell: Callable[[str, int, int], None]
) -> Iterator[Finding]:
    """Yield what each part finds; a step that is quick leaves its time to those behind it."""
    shares, total = 0.0, sum(step.share for step in report.steps)
    for number, step in enumerate(report.steps):
        shares += step.share
        until = began + report.minutes * 60 * shares / total
        said: Tell = _told(step, number, len(report.steps), tell)
        said("")
        parts = step.parts(report.how)
        for place, part in enumerate(parts):
            if (now := time.monotonic()) < until:
                fair = now + LENIENT * (until - now) / (len(parts) - place)
                yield from run_part(step, part, report.how, min(until, fair), said)
            else:
                yield Finding(step.name, part, "", "left out", "the step's time was over")


def _told(step: Step, number: int, count: int, tell: Callable[[str, int, int], None]) -> Tell:
    return lambda text: tell(f"{step.name} {text}".strip(), number, count)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a file to write in, which then replaces that of this name."""
    fresh = path.with_name(f".{path.name}.new")
    yield fresh
    os.replace(fresh, path)
