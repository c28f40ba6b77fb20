"""A checkout of this project as a contestant, driven only by what stays when its insides change.

That is its command line, HTTP and /proc. Every measurement starts new processes from its .venv, so
that what differs by luck from process to process shows as noise between the rounds.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bessemer.bench.compare.contest import About, Case, CaseFailed, Measure, Metric
from bessemer.bench.contestants.servers import RunningServer, ServerCommand, running
from bessemer.bench.serving.lean import gets
from bessemer.bench.serving.processes import cost, peak
from bessemer.bench.serving.serve import Load, load
from bessemer.http.hub import BUILT_IN_NAME

SPEED = Metric("tokens", "tok/s")
SERVER = (
    Metric("start to healthy", "s", more_is_better=False, digits=3),
    Metric("tokens, 1 stream", "tok/s"),
    Metric("tokens, 8 streams", "tok/s"),
    Metric("server CPU a streamed token, 1 stream", "µs", more_is_better=False),
    Metric("server CPU a streamed token, 8 streams", "µs", more_is_better=False),
    Metric("GET /v1/models, 1 connection", "/s", digits=0),
    Metric("GET /v1/models, 8 connections", "/s", digits=0),
    Metric("server CPU a GET, 8 connections", "µs", more_is_better=False),
    Metric("peak memory of the server", "MB", more_is_better=False),
    Metric("peak memory of the worker", "MB", more_is_better=False),
)
STREAMS = 8
REPEATS = 2  # rounds of `bessemer bench` in one process
WORDS = 30  # of each prompt
# The flags of `bessemer bench` that say how much is measured, and which number of a case each is.
FLAGS = {
    "decode": {"--tokens": "tokens", "--context": "context"},
    "prefill": {"--lengths": "tokens"},
    "batch": {"--tokens": "tokens", "--context": "context", "--streams": "streams"},
}
TIER = "from bessemer.kernels.cpu.library import library as l; print(getattr(l(), 'tier', 'none'))"


@dataclass(frozen=True, slots=True)
class Checkout:
    """`venv` is the checkout's .venv; `model` a directory, for cases other than the built-in one.

    GETs are sent for `seconds`.
    """

    label: str
    venv: Path
    model: Path
    seconds: float

    @property
    def command(self) -> list[str]:
        return [str(self.venv / "bin" / name) for name in ("python", "bessemer")]

    def start(self) -> About:
        described = ["git", "-C", str(self.venv.parent), "describe", "--always", "--dirty"]
        tier = [self.command[0], "-P", "-c", TIER]
        return About(self.label, _said(described), {"CPU tier": _said(tier)})

    def measure(self, case: Case, seed: int) -> Measure:
        return self._server(case, seed) if case.benchmark == "server" else self._bench(case, seed)

    def close(self) -> None:
        """Nothing runs between two measurements."""

    def _bench(self, case: Case, seed: int) -> Measure:
        amounts = [f"{flag}={getattr(case, name)}" for flag, name in FLAGS[case.benchmark].items()]
        model = BUILT_IN_NAME if case.name == BUILT_IN_NAME else str(self.model)
        terms = [
            f"--rounds={REPEATS}",
            "--budget=0",
            f"--seed={seed}",
            f"--model={model}",
            "--json",
        ]
        report = json.loads(_output([*self.command, "bench", case.benchmark, *amounts, *terms]))
        return Measure({SPEED.name: report["rows"][0]["median"]})

    def _server(self, case: Case, seed: int) -> Measure:
        argv = [*self.command, "serve", "--model=guide", "--port=PORT", "--log-level=error"]
        command = ServerCommand(self.label, argv, BUILT_IN_NAME, "", {}, 0, ready="/health")
        with running(command) as server:
            _stream(server, 1, 1, case.tokens, seed)  # what is imported or compiled once
            one = _stream(server, 1, STREAMS, case.tokens, seed + STREAMS)
            many = _stream(server, STREAMS, 1, case.tokens, seed + 3 * STREAMS)
            rates = [*_gets(server, 1, self.seconds), *_gets(server, STREAMS, self.seconds)]
            peaks = [peak(server.process), sum(map(peak, server.process.children()))]
        streamed = [one[0], many[0], one[1], many[1]]
        values = [server.ready, *streamed, rates[0], *rates[2:], *(size / 1e6 for size in peaks)]
        return Measure({m.name: value for m, value in zip(SERVER, values, strict=True)})


def _stream(
    server: RunningServer, streams: int, times: int, tokens: int, seed: int
) -> tuple[float, float]:
    """Return tokens a second, and CPU microseconds a token of the server's process."""
    loads = [
        _complete(load(server.url, BUILT_IN_NAME, streams, WORDS, tokens, seed + n))
        for n in range(times)
    ]
    return fmean(each.throughput for each in loads), fmean(each.server_us or 0 for each in loads)


def _complete(row: Load) -> Load:
    if row.errors:
        raise CaseFailed(f"{row.errors} of {row.streams} streams failed")
    return row


def _gets(server: RunningServer, connections: int, seconds: float) -> tuple[float, float]:
    """Return answers a second, and CPU microseconds an answer of the server's process."""
    before = cost(server.process)
    try:
        answers, spent = gets(server.url, "/v1/models", connections, seconds)
    except (OSError, ValueError) as error:
        raise CaseFailed(f"GET /v1/models: {error}") from None
    return answers / spent, cost(server.process).since(before).server_cpu / answers * 1e6


def _said(command: Sequence[str]) -> str:
    try:
        return _output(command).strip()
    except CaseFailed:
        return "not said"


def _output(command: Sequence[str]) -> str:
    """Return what a command prints; CaseFailed has the last line of its errors. It ends with us."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        raise CaseFailed(f"{command[0]} cannot be started: {error.strerror}") from None
    with process:
        try:
            output, errors = process.communicate()
        finally:
            process.terminate()
    if process.returncode:
        raise CaseFailed(
            errors.strip().rpartition("\n")[2] or f"it ended with {process.returncode}"
        )
    return output
