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
    running = {model, asker}
    try:
        return _see_off(life, running)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if running and has_status_line():  # they have no time to clear what they said
            say(CLEAR_BELOW)
        for process in running:
            _end(process)


def _see_off(life: int, running: set[int]) -> int:
    while running:
        process, status = os.wait()
        if process not in running:  # an orphan's end, where this process is a container's first
            continue
        running.remove(process)
        if code := os.waitstatus_to_exitcode(status):
            return _told(code)
        try:
            os.write(life, GO)
        except BrokenPipeError:  # both have gone
            continue
    return 0


def _told(code: int) -> int:
    """Return an exit code; where a signal ended a process, say so."""
    if code > 0:
        return code
    if -code == signal.SIGINT:
        return INTERRUPTED
    from signal import Signals

    name = Signals(-code).name if -code in {*Signals} else f"signal {-code}"
    why = ", as the system does where memory is short" if -code == signal.SIGKILL else ""
    say(f"{CLEAR if has_status_line() else ''}bessemer: its process was ended by {name}{why}.\n")
    return FAILED


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


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, nobody could be waited for
    life, model, asker = map(int, sys.argv[1:])
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return wait(life, model, asker)
    except KeyboardInterrupt:  # there was one waiting; what is started ends with `life`
        return INTERRUPTED


if __name__ == "__main__":
    os._exit(main())
