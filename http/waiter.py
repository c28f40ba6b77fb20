"""What the process of `bessemer run` becomes once its two others are started: it waits for them.

`python -I -S waiter.py LIFE MODEL ASKER`, a pipe and two processes. Nothing but a little of the
standard library is imported, and no site: every megabyte stands beside the model's weights.
"""

import _signal as signal  # type: ignore[import-not-found]  # the other imports enum: a megabyte
import os
import sys

INTERRUPTED = 130  # a shell's exit code for Ctrl-C
FAILED = 2
CLEAR, CLEAR_BELOW = "\r\x1b[2K", "\r\x1b[J"  # a terminal's line; that and all below it
GO = b"\n"  # tells the process with the model that the one that asks has gone


def wait(life: int, model: int, asker: int) -> int:
    """Wait for both processes, and end what is left of them; return the command's exit code."""
    running, code, why = {model, asker}, INTERRUPTED, ""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, nobody could be waited for
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # there may have been one
        code, why = _see_off(life, running)
    except KeyboardInterrupt:
        pass
    asking = asker in running
    for process in running:
        _end(process)
    if has_status_line() and (running or why):  # no part of an answer is cleared
        say(CLEAR_BELOW if asking else "\n")
    say(why)
    return code


def _see_off(life: int, running: set[int]) -> tuple[int, str]:
    """Wait until both have ended well, or one has not; return the exit code, and a sentence."""
    while running:
        process, status = os.wait()
        if process not in running:  # an orphan's end, where this process is a container's first
            continue
        running.remove(process)
        if code := os.waitstatus_to_exitcode(status):
            return (code, "") if code > 0 else (FAILED, _cause(-code))
        try:
            os.write(life, GO)
        except BrokenPipeError:  # both have gone
            continue
    return 0, ""


def _cause(number: int) -> str:
    """Say which signal ended a process."""
    from signal import Signals

    name = Signals(number).name if number in {*Signals} else f"signal {number}"
    why = ", as the system does where memory is short" if number == signal.SIGKILL else ""
    return f"bessemer: its process was ended by {name}{why}.\n"


def _end(process: int) -> None:
    """Kill a process, and the compilers that it may have started, if it leads them."""
    kill = os.killpg if os.getpgid(process) == process else os.kill
    kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def has_status_line() -> bool:
    """Return whether stderr is a terminal whose lines can be cleared."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # it may be a full disk's
        pass


if __name__ == "__main__":
    os._exit(wait(*map(int, sys.argv[1:])))
