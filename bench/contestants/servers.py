"""Servers that are started for a measurement, once or each round: ours and the peers'."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from bessemer.bench.compare.contest import About, Case, CaseFailed, Measure
from bessemer.bench.contestants.endpoint import Endpoint
from bessemer.bench.serving.processes import cost, peak, pss

ENTRY = "import sys; from bessemer.http.cli import main; sys.exit(main(sys.argv[1:]))"
BESSEMER = (sys.executable, "-P", "-c", ENTRY)
PATIENCE = 300.0  # seconds until a server counts as one that does not start
LOOK = 0.005  # seconds between looks at a starting server


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """The start of a server; PORT in its argv is replaced. `pool` is its KV pool in bytes.

    `split` says that the model is in a child of the server's process, `run` is a command that
    prints one answer without a server, if there is one. Once `ready` is answered, it serves.
    """

    label: str
    argv: Sequence[str]
    model: str
    version: str
    settings: Mapping[str, str]
    bytes: int
    environment: Mapping[str, str] = field(default_factory=dict)
    pool: int = 0
    split: bool = False
    run: Sequence[str] = ()
    ready: str = "/v1/models"

    @property
    def about(self) -> About:
        return About(self.label, self.version, self.settings, self.bytes)


@dataclass(frozen=True, slots=True)
class RunningServer:
    process: psutil.Process
    url: str
    began: float
    ready: float  # seconds until it answered


@contextmanager
def running(command: ServerCommand) -> Iterator[RunningServer]:
    """Start a server, and kill it at the end with everything it started; CaseFailed if it fails."""
    port = free_port()
    argv = [each.replace("PORT", str(port)) for each in command.argv]
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        began = time.perf_counter()
        process = _launch(argv, command.environment, errors)
        stack.callback(_end, process)
        url = f"http://127.0.0.1:{port}"
        while not answers(f"{url}{command.ready}"):
            if process.poll() is not None:
                raise CaseFailed(
                    f"its server ended with {process.returncode}: {_last_line(errors)}"
                )
            if time.perf_counter() - began > PATIENCE:
                raise CaseFailed(f"its server was not ready within {PATIENCE:.0f} s")
            time.sleep(LOOK)
        ready = time.perf_counter() - began
        yield RunningServer(psutil.Process(process.pid), url, began, ready)


def _launch(
    command: Sequence[str], environment: Mapping[str, str], errors: IO[bytes]
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    except OSError as error:
        raise CaseFailed(f"{command[0]} cannot be started: {error.strerror}") from None


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[-300:] if lines else "without a word"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


@dataclass(slots=True)
class SteadyServer:
    """A server that runs through all rounds, for `bench serve`."""

    command: ServerCommand
    _stack: ExitStack = field(default_factory=ExitStack)
    _endpoint: Endpoint | None = None

    @property
    def label(self) -> str:
        return self.command.label

    def start(self) -> About:
        server = self._stack.enter_context(running(self.command))
        self._endpoint = Endpoint(self.label, server.url, self.command.model)
        return self.command.about

    def measure(self, case: Case, seed: int) -> Measure:
        assert self._endpoint is not None
        return self._endpoint.measure(case, seed)

    def close(self) -> None:
        self._stack.close()


@dataclass(frozen=True, slots=True)
class RestartedServer:
    """A server started anew in each round: how soon it serves, and what it then needs."""

    command: ServerCommand

    @property
    def label(self) -> str:
        return self.command.label

    def start(self) -> About:
        return self.command.about

    def measure(self, case: Case, seed: int) -> Measure:
        if case.benchmark == "memory":
            return self._memory(case, seed)
        values = self._run() if self.command.run else {}
        with running(self.command) as server:
            (reply,) = Endpoint(self.label, server.url, self.command.model).streams(1, 1, 1, seed)
            values |= {"ready": server.ready, "first": reply.pieces[0] - server.began}
            values["peak"] = sum(map(peak, family(server.process))) / 1e6
        return Measure(values)

    def close(self) -> None:
        pass

    def _run(self) -> dict[str, float]:
        """Return the seconds from the start of the command to the first byte that it prints."""
        began = time.perf_counter()
        process = subprocess.Popen(
            self.command.run,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self.command.environment},
        )
        assert process.stdout is not None
        try:
            printed = os.read(process.stdout.fileno(), 1)
            seconds = time.perf_counter() - began
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        return {"run": seconds} if printed else {}

    def _memory(self, case: Case, seed: int) -> Measure:
        """Measure the process that holds the model: ours is the worker, a child of the server."""
        with running(self.command) as server:
            endpoint = Endpoint(self.label, server.url, self.command.model)
            holders = server.process.children() if self.command.split else family(server.process)
            loaded = sum(map(pss, holders))
            endpoint.streams(case.context, case.tokens, 1, seed)
            after = sum(map(pss, holders))
            total = cost(server.process).pss
        plain = after - self.command.pool
        values = {"loaded": loaded / 1e6, "after": after / 1e6, "whole": total / 1e6}
        values |= {"plain": plain / 1e6, "over": plain / self.command.bytes}
        return Measure(values)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]
