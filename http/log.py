"""The log: lines from the event loop, written to stderr by a thread so that nothing waits."""

import sys
import threading
import time
import traceback
from collections import deque
from typing import BinaryIO, Self

LEVELS = ("debug", "info", "warning", "error")
BACKLOG = 10_000  # lines kept for a stderr that does not take them; about 1 MB
PAUSE = 0.05  # seconds between two writes: under load a wake-up a line would cost more than it does


class Log:
    """A log of lines at or above `level`, to be closed at the end; never give it keys or bodies."""

    def __init__(self, level: str = "info", stream: BinaryIO | None = None) -> None:
        self._level = LEVELS.index(level)
        self._stream = stream or sys.stderr.buffer
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._second, self._stamp = 0, ""
        self._some = threading.Event()
        self._closed = threading.Event()
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def debug(self, text: str) -> None:
        self._put(0, text)

    def info(self, text: str) -> None:
        self._put(1, text)

    def warning(self, text: str) -> None:
        self._put(2, f"warning: {text}")

    def error(self, text: str, error: BaseException | None = None) -> None:
        """Log an error and the traceback of the exception, if there is one."""
        trace = "\n" + "".join(traceback.format_exception(error)).rstrip() if error else ""
        self._put(3, f"error: {text}{trace}")

    def access(
        self, client: str, line: str, status: int, seconds: float, sent: int, name: str
    ) -> None:
        """Log a request that is over; `line` is its method and path, without the query."""
        if self._level <= 1:
            self._put(1, f'{client} "{line}" {status} {seconds * 1000:.1f} ms {sent} B {name}')

    def close(self) -> None:
        """Write what is left, as far as stderr takes it within a second."""
        self._closed.set()
        self._some.set()
        self._writer.join(timeout=1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, level: int, text: str) -> None:
        if level < self._level:
            return
        if len(self._lines) >= BACKLOG:
            self._dropped += 1
            return
        self._lines.append(f"{self._now()} {text}\n")
        if not self._some.is_set():
            self._some.set()

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z"

    def _write(self) -> None:
        while not self._closed.is_set() or self._lines:
            self._some.wait()
            self._some.clear()
            self._flush()
            self._closed.wait(PAUSE)

    def _flush(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            lines.append(f"{self._now()} warning: {self._dropped} lines of this log were dropped\n")
            self._dropped = 0
        try:
            self._stream.write("".join(lines).encode("utf-8", "backslashreplace"))
            self._stream.flush()
        except (OSError, ValueError):  # stderr is closed: there is nobody left to tell
            self._lines.clear()
