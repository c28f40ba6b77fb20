"""The three processes of `bessemer run`, started for real; each ends with the others."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.http.running import eventually

BESSEMER = str(Path(sys.executable).parent / "bessemer")
ENDLESS = ("--temperature", "2", "--max-tokens", "1900")


@contextmanager
def running(*arguments: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run it with a pipe that an endless answer fills: nobody is done before he is killed."""
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pipes |= {"pipesize": 4096, "bufsize": 0}
    start: Any = subprocess.Popen
    process: subprocess.Popen[bytes] = start([BESSEMER, "run", *arguments], **pipes, **how)
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.communicate()


def children(process: subprocess.Popen[bytes], module: str) -> list[psutil.Process]:
    found = psutil.Process(process.pid).children()
    return [each for each in found if module in each.cmdline()]


def answering(process: subprocess.Popen[bytes]) -> psutil.Process:
    """Wait for the first word, and return the process with the model, which then is alone."""
    assert process.stdout is not None and process.stdout.read(1)
    (model,) = psutil.Process(process.pid).children()
    assert "bessemer.engine.one_answer" in model.cmdline()
    return model


def test_a_model_that_the_system_kills_is_a_sentence() -> None:
    with running("Hi", *ENDLESS) as process:
        answering(process).kill()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        why = "its process was ended by SIGKILL, as the system does where memory is short"
        assert err.decode() == f"bessemer: {why}.\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_launcher_that_is_killed_leaves_nothing(number: signal.Signals) -> None:
    with running("Hi", *ENDLESS) as process:
        model = answering(process)
        process.send_signal(number)
        assert process.wait(60) == -number
        assert eventually(lambda: not model.is_running())


def test_what_asks_ends_with_its_launcher_too() -> None:
    with running("-", stdin=subprocess.PIPE) as process:
        assert eventually(lambda: len(children(process, "bessemer.http.cli")) == 1)
        assert eventually(lambda: len(children(process, "bessemer.engine.one_answer")) == 1)
        both = psutil.Process(process.pid).children()
        process.kill()
        assert eventually(lambda: not any(each.is_running() for each in both))


def test_the_model_is_told_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("BESSEMER_API_KEY", "secret")
    with running("Hi", *ENDLESS) as process:
        assert "secret" not in answering(process).environ().values()


@pytest.mark.parametrize(
    ("line", "oracle"),
    [
        ('"$@" <&-', (0, True, "")),
        ('"$@" >&-', (0, False, "")),
        ('"$@" <&- >&- 2>&-', (0, False, "")),
        ('"$@" | true', (0, False, "")),
        ('"$@" >/dev/full', (2, False, "standard output, or a file, cannot be used")),
        ('trap "" CHLD; exec "$@"', (0, True, "")),
    ],
)
def test_odd_streams(line: str, oracle: tuple[int, bool, str]) -> None:
    command = [BESSEMER, "run", "Hi", "--max-tokens", "2"]
    done = subprocess.run(
        ["sh", "-c", line, "sh", *command], capture_output=True, text=True, timeout=60, check=False
    )
    code, shown, words = oracle
    assert (done.returncode, bool(done.stdout)) == (code, shown), done.stderr
    assert (words in done.stderr) if words else not done.stderr
