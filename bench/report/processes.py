"""Parts of steps in processes: one that crashes or hangs is a finding, and the next goes on."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from bessemer.bench.report.finding import Finding, How, State
from bessemer.bench.report.steps import Step

CHILD = "bessemer.bench.report.child"
STARTING = 120.0  # seconds until a process tries its first item
LAST_LINES = 20  # of what a process said before its end
Tell = Callable[[str], None]  # of what is going on


@dataclass(slots=True)
class Attempt:
    """A process that works on a part, from its item number `done` on."""

    step: Step
    part: str
    done: int
    how: How
    item: str | None = None  # that is being tried
    again: bool = False  # whether another process should go on with the items behind it

    def findings(self, until: float, tell: Tell) -> Iterator[Finding]:
        """Yield what it finds, and how it ended if not by itself."""
        order = {"work": self.step.work, "part": self.part, "done": self.done}
        command = [sys.executable, "-P", "-m", CHILD, json.dumps(order | asdict(self.how))]
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True
            )
            lines: queue.SimpleQueue[str] = queue.SimpleQueue()
            reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
            reader.start()
            try:
                yield from self._followed(process, lines, until, tell, said)
            finally:
                _end(process)
                reader.join()
                assert process.stdout is not None
                process.stdout.close()

    def _followed(
        self,
        process: "subprocess.Popen[str]",
        lines: "queue.SimpleQueue[str]",
        until: float,
        tell: Tell,
        said: IO[str],
    ) -> Iterator[Finding]:
        began, seconds = time.monotonic(), max(STARTING, self.step.seconds)
        while True:
            late = began + seconds
            try:
                line = lines.get(timeout=max(0.0, min(late, until) - time.monotonic()))
            except queue.Empty:
                yield from self._late(late <= until, said)
                return
            if not line:
                yield from self._ended(process.wait(), said)
                return
            message: dict[str, Any] = json.loads(line)
            if "item" in message:
                self.item, began, seconds = message["item"], time.monotonic(), self.step.seconds
                tell(f"{self.part} {self.item}".strip())
            else:
                yield self._finding(**message)
                self.item, began = None, time.monotonic()  # the next one's arguments take time too
                self.done += 1

    def _late(self, is_hang: bool, said: IO[str]) -> Iterator[Finding]:
        if is_hang:
            text = f"no end after {self.step.seconds:g} s"
            yield self._finding("hang", text, self.step.seconds, {"stderr": _tail(said)})
            self._go_on()
        else:
            text = f"its time was over after {self.done} of its items"
            self.item = ""
            yield self._finding("left out", text)

    def _ended(self, code: int, said: IO[str]) -> Iterator[Finding]:
        """Say how it ended where it did not do all that it should."""
        if code == 0:
            return
        stderr = _tail(said)
        if code < 0:
            text = f"it ended its process by {signal.Signals(-code).name}"
            yield self._finding("crash", text, 0.0, {"stderr": stderr})
        else:
            text = (stderr.splitlines() or [f"exit code {code}"])[-1]
            yield self._finding("error", text, 0.0, {"stderr": stderr})
        self._go_on()

    def _go_on(self) -> None:
        """Leave the item to itself; where none had begun, another process would end alike."""
        self.again = self.item is not None
        self.done += 1

    def _finding(
        self, state: State, text: str = "", seconds: float = 0.0, details: Any = None
    ) -> Finding:
        where = (self.step.name, self.part, self.item or "")
        return Finding(*where, state, text, seconds, details or {})


def run_part(step: Step, part: str, how: How, until: float, tell: Tell) -> Iterator[Finding]:
    """Yield the findings of a part, in as many processes as it takes."""
    attempt = Attempt(step, part, 0, how)
    while True:
        yield from attempt.findings(until, tell)
        if not attempt.again:
            return
        attempt = Attempt(step, part, attempt.done, how)


def _read(stream: IO[str], lines: "queue.SimpleQueue[str]") -> None:
    """Hand lines on; an empty one is the end, also where half a line was written before it."""
    for line in stream:
        if line.endswith("\n"):
            lines.put(line)
    lines.put("")


def _tail(said: IO[str]) -> str:
    said.seek(0)
    return "".join(said.readlines()[-LAST_LINES:]).strip()


def _end(process: "subprocess.Popen[str]") -> None:
    """Kill it with all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
