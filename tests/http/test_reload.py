"""Settings that come anew; through a whole server they are in gateway/test_dispatch.py."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bessemer.http.config import Config, UsageError
from bessemer.http.gateway.settings import NO_GATEWAY, GatewaySettings
from bessemer.http.log import Log
from bessemer.http.message import App
from bessemer.http.reload import BUILT, CurrentApp, Reload, hung_up, unreached


def test_only_what_the_process_began_with_needs_a_restart() -> None:
    before = Config()
    assert unreached(before, before) == []
    assert unreached(before, Config(api_key=("a",), rate_limit=3)) == []
    assert unreached(before, Config(port=1, max_tokens=2, rate_limit=3)) == ["port", "max_tokens"]
    assert Config.__dataclass_fields__.keys() >= BUILT


CHILD = """
import fcntl, os, signal, termios
from bessemer.http.reload import hung_up
signal.signal(signal.SIGHUP, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.write(1, str(hung_up()).encode())
try:
    while os.read(0, 100):
        pass
except OSError:
    pass
os.write(1, str(hung_up()).encode())
"""


def test_a_terminal_that_is_gone_is_told_from_one_that_never_was(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert not hung_up(file.fileno())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-c", CHILD]
    about: dict[str, Any] = {"stdin": theirs, "stdout": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(command, **about) as child:
        os.close(theirs)
        assert child.stdout is not None and child.stdout.read(5) == b"False"
        os.close(ours)
        assert child.stdout.read() == b"True"


class Built:
    """An application that says which settings it was built from."""

    def __init__(self, config: Config) -> None:
        self.config = config


def reload(answers: list[Config | UsageError], tmp_path: Path) -> tuple[Built, list[bool], str]:
    path = tmp_path / "log"

    async def build(config: Config, gateway: GatewaySettings) -> App:
        if config.port == 13:
            raise UsageError("nothing can be built")
        return Built(config)  # type: ignore[return-value]

    def reread() -> tuple[Config, GatewaySettings]:
        answer = answers.pop(0)
        if isinstance(answer, UsageError):
            raise answer
        return answer, NO_GATEWAY

    async def run() -> tuple[Built, list[bool]]:
        first = Config()
        current = CurrentApp(await build(first, NO_GATEWAY))
        again = Reload(current, build, reread, first, log)
        return current, [await again() for _ in range(len(answers))]  # type: ignore[return-value]

    with path.open("wb") as file, Log("info", file) as log:
        current, done = asyncio.run(run())
    return current.app, done, path.read_text()  # type: ignore[attr-defined]


def test_bad_settings_leave_the_old_ones_in_force(tmp_path: Path) -> None:
    good, bad = Config(rate_limit=7), UsageError("config.toml, line 3: x is no key")
    app, done, log = reload([good, bad, Config(port=13)], tmp_path)
    assert done == [True, False, False] and app.config is good
    assert "stay as they were: config.toml, line 3: x is no key" in log
    assert "nothing can be built" in log


@pytest.mark.parametrize("gone", [False, True])
def test_a_hangup_stops_where_the_terminal_is_gone(
    gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bessemer.http.reload.hung_up", lambda: gone)
    done = list[str]()

    class Noted(Reload):
        async def __call__(self) -> bool:
            done.append("read")
            return True

    async def run() -> None:
        noted = Noted(None, None, None, Config(), None)  # type: ignore[arg-type]
        noted.on_hangup(lambda: done.append("stopped"))
        await asyncio.sleep(0.01)
        assert not noted.under_way

    asyncio.run(run())
    assert done == ["stopped" if gone else "read"]
