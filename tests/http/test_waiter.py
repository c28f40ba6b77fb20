"""Who waits for the two processes of `bessemer run`, with shells in the place of both."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bessemer.http import waiter
from tests.http.running import eventually

KILLED = "bessemer: its process was ended by SIGKILL, as the system does where memory is short.\n"
# A program that starts both shells, and becomes who waits for them: as launcher.py does.
START = """
import os, signal, sys
waiter, model, asker = sys.argv[1:]
ends, life = os.pipe()
os.dup2(ends, 9)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
def shell(line, **how):
    return str(os.posix_spawn("/bin/sh", ["sh", "-c", line], os.environ, **how))
started = shell(model, setsid=True), shell(asker)
os.close(9)
os.set_inheritable(life, True)
os.execv(sys.executable, [sys.executable, "-I", "-S", waiter, str(life), *started])
"""


def start(model: str, asker: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, waiter.__file__, model, asker],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "asker", "oracle"),
    [
        ("exit 0", "exit 0", (0, "", "")),
        ("exit 2", "exec sleep 60", (2, "", "")),
        ("sleep 60", "exit 3", (3, "", "")),
        ("exit 0", "sleep 0.3; exit 2", (2, "", "")),  # it had gone without a question
        ("read x <&9; echo $?; exit 4", "echo asked", (4, "asked\n0\n", "")),
        ("kill -9 $$", "exec sleep 60", (2, "", KILLED)),
        ("sleep 60", "kill -9 $$", (2, "", KILLED)),
        ("kill -6 $$", "exit 0", (2, "", "bessemer: its process was ended by SIGABRT.\n")),
    ],
)
def test_what_a_command_ends_with(model: str, asker: str, oracle: tuple[int, str, str]) -> None:
    process = start(model, asker)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == oracle


def test_ctrl_c_ends_both_and_what_the_first_has_started() -> None:
    """Whether it waits yet or is only about to: here it comes as soon as both are started."""
    model = "trap '' INT TERM; sleep 600 & echo $$ $!; wait"
    process = start(model, "trap '' INT TERM; echo $$; exec sleep 600")
    assert process.stdout is not None
    started = [int(pid) for _ in range(2) for pid in process.stdout.readline().split()]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err, len(started)) == (130, "", "", 3)
    assert eventually(lambda: not any(map(_lives, started)))


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_is_small() -> None:
    """Imports are what it costs beside a model's weights; none but these are needed."""
    code = f"import sys; sys.path.insert(0, {str(Path(waiter.__file__).parent)!r}); import waiter"
    named = f"{code}; print(len({{'enum', 'typing', 're', 'signal', 'site'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", named], capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr
