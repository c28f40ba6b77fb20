"""Streams and ends of commands."""

import pty
import subprocess
import sys
import termios

import pytest

from bessemer.engine.command_line import CLEAR, StatusLine, guarded, install
from bessemer.engine.remedies import FREE_SPACE

FULL = "No space left on device"


def in_shell(line: str, work: str) -> tuple[int, str, str]:
    """Run guarded work in a process; a shell's line says how, with "$@" for the process."""
    code = (
        "import sys\nfrom bessemer.engine.command_line import fail, guarded\n"
        f"sys.exit(guarded('it', lambda: {work} or 0))"
    )
    argv = ["sh", "-c", line, "sh", sys.executable, "-P", "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "work", "outcome"),
    [
        ('"$@"', "print('Hi')", (0, "Hi\n", "")),
        ('PYTHONIOENCODING=ascii "$@"', "print('\u00e9\\ud800')", (0, "\\xe9\\ud800\n", "")),
        ('"$@" >&-', "print('Hi')", (0, "", "")),
        ('"$@" <&- >&- 2>&-', "print(sys.stdin.read(), file=sys.stderr)", (0, "", "")),
        ('"$@" >&-', "print(__import__('socket').socket().fileno() > 2, file=sys.stderr)",
         (0, "", "True\n")),
        ('"$@" | true', "[print('x' * 9999) for _ in range(999)] and", (0, "", "")),
        ('"$@" >/dev/full', "print('Hi')",
         (2, "", f"it: standard output, or a file, cannot be used ({FULL}); {FREE_SPACE}.\n")),
        ('"$@" 2>/dev/full', "fail('it', 'no')", (2, "", "")),
        ('"$@" >/dev/full 2>&1', "print('Hi')", (2, "", "")),
        ('"$@"', "open('/dev/full', 'wb', buffering=0).write(b'Hi')",
         (2, "", f"it: standard output, or a file, cannot be used ({FULL}); {FREE_SPACE}.\n")),
        ('"$@"', "open('/no/such')",
         (2, "", "it: /no/such cannot be used (No such file or directory); check the name.\n")),
    ],
)  # fmt: skip
def test_streams_that_are_odd(line: str, work: str, outcome: tuple[int, str, str]) -> None:
    assert in_shell(line, work.removesuffix(" and")) == outcome


def test_ends() -> None:
    def end(error: BaseException) -> int:
        def work() -> int:
            raise error

        return guarded("it", work)

    assert [end(KeyboardInterrupt()), end(BrokenPipeError())] == [130, 1]
    with pytest.raises(ValueError, match="bug"):
        end(ValueError("bug"))


def test_a_package_is_put_where_this_python_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my place/bin/python")
    assert install("a", "b") == "'/my place/bin/python' -m pip install a b"


def test_a_status_never_takes_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (20, 40))
    with open(screen, "rb", buffering=0) as shown, open(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        status = StatusLine(live=True)
        for text in ("loading", "a" * 39, "a" * 40, "a" * 200):
            status.say(text)
            said = shown.read(1000).decode().removeprefix(CLEAR)
            assert len(said) < 40
            assert said == text or text.startswith(said.removesuffix("..."))
            assert (said == text) == (len(text) < 40)
        status.say(text)
        status.clear()
        status.clear()
        StatusLine(live=False).say("nothing")
        assert shown.read(1000).decode() == CLEAR
