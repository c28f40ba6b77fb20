"""A contestant in a process of its own, asked and answering in lines of JSON."""

import json
import os
import selectors
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from bessemer.bench.compare.contest import About, Case, CaseFailed, Measure

PATIENCE = 3600.0  # seconds for one answer; slow peers have budgets, hung ones are ended here
LAST_WORDS = 300  # characters of a dead process's error output that are shown


@dataclass(slots=True)
class Child:
    """A process that follows orders: `load` is the first, `settings` are added to its own."""

    label: str
    command: Sequence[str]
    load: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    size: int = 0  # of its weights, in bytes
    _process: "subprocess.Popen[str] | None" = None
    _errors: "IO[bytes] | None" = None

    def start(self) -> About:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **self.environment},
            )
        except OSError as error:
            raise CaseFailed(f"{self.command[0]} cannot be started: {error.strerror}") from None
        answer = self._order({"do": "load", **self.load})
        settings = {**answer["settings"], **self.settings}
        return About(self.label, answer["version"], settings, self.size)

    def measure(self, case: Case, seed: int) -> Measure:
        answer = self._order(
            {
                "do": case.benchmark,
                "tokens": case.tokens,
                "context": case.context,
                "streams": case.streams,
                "seed": seed,
            }
        )
        return Measure({"speed": answer["tokens"] / answer["seconds"]})

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            try:
                self._process.stdin.close()
                self._process.wait(0.3)  # it has nothing to lose
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _order(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is None:
            raise CaseFailed("its process has ended")
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(dict(order)) + "\n")
            self._process.stdin.flush()
            line = self._line(self._process.stdout)
        except BrokenPipeError:
            line = ""
        if not line:
            raise CaseFailed(self._epitaph())
        answer = json.loads(line)
        if "error" in answer:
            raise CaseFailed(" ".join(answer["error"].split()))
        return dict(answer["ok"])

    def _line(self, output: IO[str]) -> str:
        with selectors.DefaultSelector() as ready:
            ready.register(output, selectors.EVENT_READ)
            if not ready.select(PATIENCE):
                raise CaseFailed(f"it gave no answer within {PATIENCE:.0f} s")
        return output.readline()

    def _epitaph(self) -> str:
        """Say why the process ended, in its own last words."""
        assert self._process is not None and self._errors is not None
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        text = lines[-1].strip()[-LAST_WORDS:] if lines else "without a word"
        self.close()
        return f"its process ended with {code}: {text}"
