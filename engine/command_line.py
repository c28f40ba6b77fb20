"""What all commands have in common: their streams, what they say there, and their ends."""

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper

from .remedies import remedy

USAGE = 2  # what shells and argparse mean by a usage error
INTERRUPTED = 130  # a shell's exit code for Ctrl-C
BROKEN_PIPE = 1  # as typer ends where its reader has gone
CLEAR = "\r\x1b[2K"  # a terminal's line, from its beginning


def install(*packages: str) -> str:
    """Return the command that puts packages where this Python finds them."""
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])


def guarded(name: str, work: Callable[[], int]) -> int:
    """Return the exit code of a command; what ends it from outside is a sentence, or nothing."""
    _open_streams()
    try:
        code = work()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except OSError as error:
        _forget_stdout()
        where = "standard output, or a file," if error.filename is None else error.filename
        return fail(name, f"{where} cannot be used ({error.strerror or error}); {remedy(error)}")


def fail(name: str, message: str) -> int:
    """Say a user's mistake in one sentence; return the exit code."""
    sentence = " ".join(message.split()).rstrip(".")
    say(f"{name}: {sentence}{'' if sentence.endswith('?') else '.'}\n")
    return USAGE


def say(text: str) -> None:
    """Say something on stderr, if it takes that: it may be a full disk's."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


class StatusLine:
    """A line on stderr that says what is being done, until there is something to read.

    It is `live` where stderr is a terminal that can clear it; else nothing is said.
    """

    def __init__(self, live: bool) -> None:
        self.live = live
        self._shown = ""

    def say(self, text: str) -> None:
        if self.live and text != self._shown:
            say(f"{CLEAR}{_fitting(text)}")
            self._shown = text

    def clear(self) -> None:
        if self._shown:
            say(CLEAR)
            self._shown = ""


def _fitting(text: str) -> str:
    """Cut what a narrow terminal would wrap, as only one line can be cleared."""
    columns = os.get_terminal_size(sys.stderr.fileno()).columns
    return text if columns <= 0 or len(text) < columns else f"{text[: max(columns - 4, 0)]}..."


def _open_streams() -> None:
    """Open what a process was started without, and let no character be one that cannot be shown.

    Else the next socket would be standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Let go what standard output does not take: Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
