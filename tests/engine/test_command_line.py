"""Streams and ends of commands; flags of `quantize`, which both of its processes show alike."""

import re
import signal
import subprocess
import sys

import pytest

from bessemer.engine.checkpoint import quantize
from bessemer.engine.command_line import guarded, install, quantize_flags
from bessemer.engine.remedies import FREE_SPACE
from bessemer.http import cli


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def test_flags_that_are_set_are_passed_on() -> None:
    assert quantize_flags(bits=3, group_size=None, mixed=None, mode="affine") == {
        "--bits": "3",
        "--mode": "affine",
    }
    assert quantize_flags(group_size=128, mixed="mixed_2_6", mode="affine")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": 7}, "--bits is 7; choose one of 2, 3, 4, 5, 6, 8"),
        ({"group_size": 16}, "--group-size is 16; choose one of 32, 64, 128"),
        ({"mode": "int8"}, "--mode is int8; choose one of affine, mxfp4, mxfp8, nvfp4"),
        ({"mixed": "mixed_3_6", "bits": 4}, "so leave --bits out"),
        ({"mode": "mxfp4", "group_size": 32}, "--group-size goes with --mode affine alone"),
    ],
)
def test_flags_that_do_not_go_together(values: dict[str, int | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantize_flags(**{"mode": "affine", **values})


def test_both_processes_have_the_same_flags(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for code in (cli.main(["quantize", "-h"]), quantize.main(["-h"])):
        assert code == 0
    for part in capsys.readouterr().out.split("Usage: ")[1:]:
        lines = part.partition("Options:\n")[2]
        shown.append(re.sub(r"  --offline .*\n", "", lines))
    assert len(shown) == 2 and shown[0] == shown[1] and "--group-size" in shown[0]


def test_a_mistake_of_the_inner_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize.main(["source"]) == 2
    assert quantize.main(["source", "into", "--bits", "7"]) == 2
    assert capsys.readouterr().err == (
        "bessemer: Missing argument 'into'.\n"
        "bessemer: --bits is 7; choose one of 2, 3, 4, 5, 6, 8.\n"
    )


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
