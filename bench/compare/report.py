"""The result of a benchmark, as one value that is printed, saved, logged and drawn alike."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bessemer.bench.compare.contest import About, Metric
from bessemer.bench.compare.floor import Floors
from bessemer.bench.compare.machine import Machine
from bessemer.bench.compare.stats import Summary, summary
from bessemer.bench.models.cost import ModelCost

SCHEMA = 1
LOCAL = ("127.0.0.1", "localhost", "::1")


class Ratio(msgspec.Struct, frozen=True):
    """Ours over theirs in the same round: the median and its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


class ResultRow(msgspec.Struct, frozen=True, rename={"minimum": "least", "maximum": "most"}):
    """One contestant's figures of one metric in one case. `floor` is the machine's limit of it."""

    case: str
    metric: str
    contestant: str
    samples: list[float]
    median: float
    low: float
    high: float
    minimum: float
    maximum: float
    ratio: Ratio | None = None
    floor: float | None = None
    of_floor: float | None = None
    notes: list[str] = []
    shown: str = ""  # instead of the figures, where they are a count of something


class ReportedModel(msgspec.Struct, frozen=True):
    """Bytes and operations are those of one token without context."""

    name: str
    mark: str
    parameters: int
    bytes: int
    read: float
    flops: float
    kv_bytes: float
    stored: str = ""

    @property
    def title(self) -> str:
        stored = f", {self.stored}" if self.stored else ""
        mark = f" ({self.mark})" if self.mark else ""
        return f"{self.name}{stored}{mark}"


class ReportedContestant(msgspec.Struct, frozen=True):
    label: str
    version: str
    settings: dict[str, str]
    bytes: int = 0

    @property
    def title(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.label} {self.version} ({settings})" if settings else self.label


class Column(msgspec.Struct, frozen=True):
    """A metric in a saved report."""

    name: str
    unit: str
    title: str
    more_is_better: bool
    digits: int


class Point(msgspec.Struct, frozen=True):
    """The amounts of a case, so that plots have their axes."""

    name: str
    tokens: int
    context: int
    streams: int


class BenchReport(msgspec.Struct, frozen=True, rename={"benchmark": "subject"}):
    schema: int
    benchmark: str
    command: list[str]
    when: str
    machine: Machine
    rounds: int
    model: ReportedModel | None
    contestants: list[ReportedContestant]
    metrics: list[Column]
    cases: list[Point]
    rows: list[ResultRow]
    floors: dict[str, list[float]]
    floor_note: str = ""
    troubles: list[str] = []

    def find(self, case: str, metric: str) -> list[ResultRow]:
        return [row for row in self.rows if row.case == case and row.metric == metric]

    def floor(self, name: str) -> Summary | None:
        samples = self.floors.get(name)
        return summary(samples) if samples and max(samples) > 0 else None


def write(report: BenchReport) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def read(content: bytes) -> BenchReport:
    """Parse a saved report; ValueError if this is none of ours."""
    report = msgspec.json.decode(content, type=BenchReport)
    if report.schema != SCHEMA:
        raise ValueError(f"its schema is {report.schema}, this version reads {SCHEMA}")
    return report


def moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def columns(metrics: Sequence[Metric]) -> list[Column]:
    return [Column(m.name, m.unit, str(m), m.more_is_better, m.digits) for m in metrics]


def contestants(abouts: Sequence[About]) -> list[ReportedContestant]:
    return [
        ReportedContestant(each.label, each.version, dict(each.settings), each.bytes)
        for each in abouts
    ]


def model(name: str, stored: str, mark: str, cost: ModelCost) -> ReportedModel:
    numbers = (cost.parameters, cost.bytes, cost.read, cost.flops, cost.kv_bytes)
    return ReportedModel(name, mark, *numbers, stored)


def floors(rounds: Sequence[Floors]) -> dict[str, list[float]]:
    names = {
        "read, GB/s": "read",
        "read with one thread, GB/s": "read_one",
        "float32, GFLOP/s": "flops",
        "int8, GOP/s": "int8",
    }
    return {title: [getattr(each, name) for each in rounds] for title, name in names.items()}


def public(arguments: Sequence[str]) -> list[str]:
    """Return a command as anybody may see it: a path by its last part, other machines as URL."""
    return [_public(argument) for argument in arguments]


def _public(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if not equals or not name.startswith("--"):
        name, equals, value = "", "", argument
    return f"{name}{equals}{','.join(map(_value, value.split(',')))}"


def _value(text: str) -> str:
    if text.startswith(("http://", "https://")):
        return text if urlsplit(text).hostname in LOCAL else "URL"
    if text.startswith(("/", "~", "./", "../")) or (os.sep in text and Path(text).exists()):
        return Path(text).name
    return text


def plain(text: str, hidden: Mapping[str, str]) -> str:
    """Return a sentence without the paths of whoever measured."""
    for path, name in hidden.items():
        text = text.replace(path, name)
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text
