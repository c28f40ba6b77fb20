"""The process behind `bessemer` and `python -m bessemer`, where Ctrl-C is quiet from the start."""

import os
import signal
import sys
from functools import partial
from importlib import import_module

INTERRUPTED = 130  # a shell's exit code for Ctrl-C

if _heard := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # while modules are imported


def main() -> int:
    """Run the command line; by its full name, as this module has two (see pyproject.toml)."""
    if sys.argv[1:2] == ["run"]:  # which needs no more of this process than to wait
        command = partial(import_module("bessemer.http.launcher").launch, sys.argv[1:])
    else:
        command = import_module("bessemer.http.cli").main
    if _heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return int(command())


if __name__ == "__main__":
    sys.exit(main())
