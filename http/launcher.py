"""The beginning of `bessemer run`: it says the first word, starts two processes and waits for them.

One of them, http.cli, reads the command and makes the prompt; the other, engine.one_answer, has the
model, and reads its weights when the first has gone. Little is imported, so that the word is early.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from . import waiter
from .environment import for_worker


def launch(arguments: Sequence[str]) -> NoReturn:
    """Become the process that waits for the command `run`, with these arguments."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until somebody waits
    if waiter.has_status_line():
        waiter.say(f"{waiter.CLEAR}loading ...")
    _open_streams()
    started = map(str, _start(arguments))
    os.execv(sys.executable, [sys.executable, "-I", "-S", waiter.__file__, *started])


def _start(arguments: Sequence[str]) -> tuple[int, int, int]:
    """Start the process with the model and the one that asks; return them after what they live by.

    Ctrl-C at a terminal stays blocked in what asks, which may read from there, and does not reach
    the other: it is for whoever waits.
    """
    (hears, asks), (asked, tells), (ends, life) = os.pipe(), os.pipe(), os.pipe()
    environment = for_worker(os.environ, threads=1)
    model = _spawn("engine.one_answer", (hears, tells, ends), (), environment, setsid=True)
    asker = _spawn("http.cli", (asked, asks, ends), arguments, os.environ)
    for descriptor in (hears, tells, asked, asks, ends):
        os.close(descriptor)
    os.set_inheritable(life, True)
    return life, model, asker


def _spawn(
    module: str,
    descriptors: Sequence[int],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    **how: Any,
) -> int:
    """Start a process of ours, which has these descriptors and is told their numbers."""
    command = [sys.executable, "-P", "-m", f"bessemer.{module}", *map(str, descriptors), *arguments]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    try:
        return os.posix_spawn(sys.executable, command, environment, **how)
    finally:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)


def _open_streams() -> None:
    """Open what this process was started without: else the next pipe would be standard output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
