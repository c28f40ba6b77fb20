"""A contestant in a process of its own, asked and answering in lines of JSON."""

import json
import os
import selectors
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from bessemer.bench.compare.contest import About, Case, Failed, Measure

PATIENCE = 3600.0  # seconds for one answer; slow peers have budgets, hung ones are ended here
LAST_WORDS = 300  # characters of a dead process's error output that are shown


@dataclass(slots=True)
class Child:
    """`load` is the order that follows the start; `settings` is added to what it says of itself."""

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
            raise Failed(f"{self.command[0]} cannot be started: {error.strerror}") from None
        found = self._ask({"do": "load", **self.load})
        return About(
            self.label, found["version"], {**found["settings"], **self.settings}, self.size
        )

    def measure(self, case: Case, seed: int) -> Measure:
        found = self._ask(
            {
                "do": case.subject,
                "tokens": case.tokens,
                "context": case.context,
                "streams": case.streams,
                "seed": seed,
            }
        )
        return Measure({"speed": found["tokens"] / found["seconds"]})

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            try:
                self._process.stdin.close()
                self._process.wait(2)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is None:
            raise Failed("its process has ended")
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(dict(order)) + "\n")
            self._process.stdin.flush()
            line = self._line(self._process.stdout)
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(self._epitaph())
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(" ".join(answer["error"].split()))
        return dict(answer["ok"])

    def _line(self, output: IO[str]) -> str:
        with selectors.DefaultSelector() as ready:
            ready.register(output, selectors.EVENT_READ)
            if not ready.select(PATIENCE):
                raise Failed(f"it gave no answer within {PATIENCE:.0f} s")
        return output.readline()

    def _epitaph(self) -> str:
        """Why the process ended, from its own last words."""
        assert self._process is not None and self._errors is not None
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        said = lines[-1].strip()[-LAST_WORDS:] if lines else "without a word"
        self.close()
        return f"its process ended with {code}: {said}"
