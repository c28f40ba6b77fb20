"""The end of a process whose starter has gone: it is ended too, with what it started."""

import os
import signal
import threading
from collections.abc import Callable


def end() -> None:
    """End at once, with the compilers that may run: the starter leads no group that they are in."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def follow(descriptor: int, gone: Callable[[], None] = end) -> threading.Event:
    """Call `gone` when the other end of a pipe is closed; set an event when something comes."""
    heard = threading.Event()

    def read() -> None:
        while os.read(descriptor, 1):
            heard.set()
        gone()

    threading.Thread(target=read, daemon=True).start()
    return heard
