"""Tries a grammar in another process first, where it may be so dear that nobody would see its end.

llguidance bounds most of what it does, but not all: of patterns that hold for one text at once each
doubles the time and the memory, and a call of it cannot be ended. Most grammars cannot be dear.
"""

import re
import subprocess
import sys
import weakref
from contextlib import suppress

SECONDS = 2  # of the processor that a grammar may take; one of 1,500 properties takes half of one
LONG = 2**15  # characters of a grammar that is tried, whatever is in it
DEAR = re.compile(r"patternProperties|multipleOf")
JOINED = re.compile(r'(?:pattern|format|Length)\\?"|[&~]')  # in Lark, quotes are escaped
FEW = 6  # of the last, with which 30 ms are not much exceeded


class Trial:
    """A process that tries grammars, started when there is a dear one; one thread asks."""

    def __init__(self, seconds: int = SECONDS) -> None:
        self._command = [sys.executable, "-P", "-m", f"{__package__}.trial_process", str(seconds)]
        self._process: subprocess.Popen[str] | None = None

    def passes(self, grammar: str) -> bool:
        """Return whether a grammar, a line of JSON, can be compiled or refused in time."""
        return not may_be_dear(grammar) or self._ends(grammar)

    def _ends(self, grammar: str) -> bool:
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{grammar}\n")
            process.stdin.flush()
            answered = bool(process.stdout.readline())
        except BrokenPipeError:
            answered = False
        if not answered:
            _end(process)
            self._process = None
        return answered

    def _start(self) -> subprocess.Popen[str]:
        self._process = process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        weakref.finalize(self, _end, process)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    with suppress(BrokenPipeError), process:
        pass


def may_be_dear(grammar: str) -> bool:
    """Return whether a grammar has to be tried."""
    if len(grammar) > LONG or DEAR.search(grammar):
        return True
    return len(JOINED.findall(grammar)) > FEW
