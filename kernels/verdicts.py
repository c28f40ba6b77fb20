"""Verdicts of trials, in a file that processes share: one of them tries at a time.

Which trial is going on stands in a second file, which the system unlocks when the process ends,
however it ends. Whoever locks it next and finds a trial there knows that it ended its process.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from .cpu.library import CompileError, cache_folder
from .metal.source import metal_files, stripped

PATIENCE = 10.0  # seconds that a process waits for others' trials, all in all
PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Verdict:
    """A trial's result; times are microseconds, 0 where the kernel was not worth timing."""

    custom: bool
    reason: str
    custom_time: float = 0.0
    mlx_time: float = 0.0


@dataclass(slots=True)
class VerdictFile:
    """The verdicts by name; without a path nothing is remembered and nobody waits."""

    path: Path | None
    patience: float = PATIENCE
    clock: Callable[[], float] = time.monotonic
    failed: dict[str, Verdict] = field(default_factory=dict)  # by trials that ended a process
    _file: TextIO | None = None  # locked, where a trial of this process is going on
    _trials: list[str] = field(default_factory=list)  # the last one within those before

    def read(self) -> dict[str, Verdict]:
        """Read the file; one that cannot be read is as good as none: the trials are made again."""
        if self.path is None:
            return {}
        with suppress(OSError, ValueError, TypeError):
            table = json.loads(self.path.read_text())
            return {name: Verdict(**table[name]) for name in table} | self.failed
        return dict(self.failed)

    def write(self, verdicts: Mapping[str, Verdict]) -> None:
        """Replace the file; a full disk costs another trial, no answer."""
        if self.path is None:
            return
        fresh = self.path.with_suffix(".new")
        with suppress(OSError):
            table = {name: asdict(verdict) for name, verdict in verdicts.items()}
            fresh.write_text(json.dumps(table, indent=1))
            fresh.replace(self.path)

    @contextmanager
    def trial(self, name: str) -> Iterator[bool]:
        """Note that a trial of this name is going on, once no other process has one.

        Yield whether it may begin: not where another process tries for longer than we wait.
        """
        with self._locked() as may_begin:
            if may_begin:
                self._trials.append(name)
                self._note()
            try:
                yield may_begin
            finally:
                if may_begin:
                    self._trials.pop()
                    self._note()

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        if self._file is not None or self.path is None:  # a trial calls other operations
            yield True
            return
        try:
            file = self.path.with_suffix(".trial").open("a+")
        except OSError:
            yield True
            return
        with file:
            if not self._wait(file):
                yield False
                return
            self._condemn(file)
            self._file = file
            try:
                yield True
            finally:
                self._file = None

    def _wait(self, file: TextIO) -> bool:
        """Lock the file; False where that took too long, as it would for a process that hangs."""
        begun = self.clock()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                waited = self.clock() - begun
                if waited >= self.patience:
                    self.patience = 0.0
                    return False
                time.sleep(PAUSE)
            else:
                self.patience = max(0.0, self.patience - (self.clock() - begun))
                return True

    def _condemn(self, file: TextIO) -> None:
        """Count the trial as failed that was going on when its process ended."""
        file.seek(0)
        try:
            left = json.loads(file.read() or "{}")
            name, process, began = left["trials"][-1], int(left["process"]), str(left["began"])
        except (ValueError, TypeError, LookupError):
            return
        if name not in (verdicts := self.read()):
            reason = (
                f"its trial of {began} ended process {process}; "
                f"it is tried again once {self.path} is removed"
            )
            self.failed[name] = Verdict(False, reason)
            self.write(verdicts | self.failed)

    def _note(self) -> None:
        """Write down the trials that are going on: on the disk, as one may end the machine too."""
        if self._file is None:
            return
        began = time.strftime("%Y-%m-%d %H:%M:%S")
        note = {"process": os.getpid(), "began": began, "trials": self._trials}
        with suppress(OSError):
            self._file.seek(0)
            self._file.truncate()
            self._file.write(json.dumps(note) if self._trials else "")
            self._file.flush()
            os.fsync(self._file.fileno())


def verdict_file(chip: str, versions: str) -> Path | None:
    """Return the file of a chip's verdicts; None where nothing can be written.

    versions: what else decides what a kernel becomes, as MLX and the system's compiler.
    """
    digest = hashlib.sha256()
    for path in metal_files().values():
        text = "\n".join(line.text for line in stripped(path))
        digest.update(path.name.encode() + b"\0" + text.encode() + b"\0")
    parts = (chip.replace(" ", "-"), versions, digest.hexdigest()[:12])
    try:
        return cache_folder() / f"kernels-{'-'.join(parts)}.json"
    except CompileError:
        return None
