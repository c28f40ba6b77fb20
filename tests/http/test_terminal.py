"""Commands as somebody at a terminal meets them: first words, progress, and Ctrl-C at any stage."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from bessemer.kernels.cpu import library
from tests.http.running import eventually
from tests.http.toy_hub import trickling

BESSEMER = str(Path(sys.executable).parent / "bessemer")
PATIENCE = 60.0  # seconds until a test gives up


@dataclass
class Terminal:
    """A command in a session of its own; a pseudo-terminal is its stderr."""

    process: subprocess.Popen[bytes]
    screen: int
    mark: str
    seen: bytes = b""

    def wait_for(self, text: bytes) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end and self.read(), self.seen

    def read(self) -> bool:
        """Read what comes; return whether more may."""
        if not select.select([self.screen], [], [], 1)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self.screen, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.seen += data
        return bool(data)

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.end()

    def end(self) -> int:
        code = self.process.wait(PATIENCE)
        while self.read():
            pass
        return code

    def left(self) -> list[str]:
        """Return the command lines of processes that the command has started and left."""
        lines = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("MARK") == self.mark:
                    lines.append(" ".join(process.cmdline()))
        return lines


@contextmanager
def terminal(*command: str, **environment: str) -> Iterator[Terminal]:
    screen, stderr = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BESSEMER_", "HF_"))}
    mark = uuid4().hex
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        env=clean
        | {"MARK": mark, "TERM": "xterm", "COLUMNS": "80", "BESSEMER_MODELS": "guide"}
        | environment,
    )
    os.close(stderr)
    assert process.stdout is not None
    try:
        with process.stdout:
            yield Terminal(process, screen, mark)
    finally:
        os.close(screen)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def check_quiet(shell: Terminal, code: int = 130) -> None:
    """Press Ctrl-C: the command ends as interrupted, without a word, and leaves nothing."""
    assert shell.interrupt() == code, shell.seen
    assert b"Traceback" not in shell.seen and b"Error" not in shell.seen, shell.seen
    assert eventually(lambda: not shell.left()), shell.left()


def test_the_first_word_is_on_the_terminal_and_goes_when_the_answer_comes() -> None:
    with terminal(BESSEMER, "run", "How do I serve a model?") as shell:
        shell.wait_for(b"loading guide ...")
        assert shell.process.stdout is not None
        answer = shell.process.stdout.read()
        assert shell.end() == 0 and b"bessemer serve --model" in answer
        assert b"\x1b" not in answer and b"loading" not in answer
        assert shell.seen.endswith(b"\r\x1b[2K")


def test_a_mistake_takes_the_first_words_place() -> None:
    with terminal(BESSEMER, "run", "--model", "/gone/m", "Hi") as shell:
        assert shell.end() == 2
        said, _, error = shell.seen.rpartition(b"\r\x1b[2K")
        assert b"loading /gone/m ..." in said and error.startswith(b"bessemer: ")


def test_a_dumb_terminal_gets_no_control_sequences() -> None:
    with terminal(BESSEMER, "run", "Hi", "--max-tokens", "1", TERM="dumb") as shell:
        assert shell.end() == 0 and b"\x1b[2K" not in shell.seen


def test_ctrl_c_while_modules_are_imported() -> None:
    slow = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'bessemer.http.cli':\n"
        "            print('importing', file=sys.stderr, flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from bessemer.__main__ import main\n"
        "main()\n"
    )
    with terminal(sys.executable, "-c", slow) as shell:
        shell.wait_for(b"importing")
        check_quiet(shell)


@pytest.mark.skipif(not library.compiled(), reason="there is no C compiler")
@pytest.mark.parametrize(("command", "code"), [(("run", "Hi"), 130), (("serve", "--port", "0"), 0)])
def test_ctrl_c_while_kernels_are_compiled(
    command: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    with terminal(BESSEMER, *command, HOME=str(tmp_path), XDG_CACHE_HOME="") as shell:
        shell.wait_for(b" files")
        check_quiet(shell, code)


def test_ctrl_c_while_a_model_is_loaded() -> None:
    with terminal(BESSEMER, "run", "Hi") as shell:
        shell.wait_for(b"loading")
        check_quiet(shell)


def test_ctrl_c_in_the_midst_of_an_answer() -> None:
    endless = ("--temperature", "2", "--max-tokens", "1900")
    with terminal(BESSEMER, "run", "Hi", *endless) as shell:
        assert shell.process.stdout is not None and shell.process.stdout.read(1)
        check_quiet(shell)


@pytest.mark.parametrize(
    "command", [("run", "Hi", "--model"), ("serve", "--port", "0", "--model"), ("quantize",)]
)
def test_ctrl_c_during_a_download(command: tuple[str, ...], tmp_path: Path) -> None:
    into = [str(tmp_path / "into")] if command == ("quantize",) else []
    with trickling() as hub:
        where = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
        with terminal(BESSEMER, *command, "org/toy", *into, HF_HUB_DISABLE_XET="1", **where) as it:
            assert hub.trickles.wait(PATIENCE)
            check_quiet(it)


def test_ctrl_c_during_a_measurement() -> None:
    with terminal(BESSEMER, "bench", "decode", "--rounds", "1000") as shell:
        shell.wait_for(b"round ")
        check_quiet(shell)
        assert shell.seen.rstrip().endswith(b"\x1b[?25h")  # the cursor is back
