"""Servers that are started for a measurement: ours, llama.cpp's and mlx_lm's; their lives, too."""

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

from bessemer.bench.compare.contest import About, Case, Failed, Measure
from bessemer.bench.contestants.endpoint import Endpoint
from bessemer.bench.serving.processes import cost, peak, pss

ENTRY = "import sys; from bessemer.http.cli import main; sys.exit(main(sys.argv[1:]))"
BESSEMER = (sys.executable, "-P", "-c", ENTRY)
PATIENCE = 300.0  # seconds until a server counts as one that does not start
LOOK = 0.005  # seconds between looks at a starting server


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start a server; PORT in its command is replaced. `pool` is its KV pool in bytes.

    `split` says that the model is in a child of the server's process, `run` is a command that
    prints one answer without a server, if there is one. Once `ready` is answered, it serves.
    """

    label: str
    command: Sequence[str]
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
class Started:
    process: psutil.Process
    url: str
    began: float
    ready: float  # seconds until it answered


@contextmanager
def started(recipe: Recipe) -> Iterator[Started]:
    """Killed at the end with everything it started; raises Failed if it does not come up."""
    port = free_port()
    command = [part.replace("PORT", str(port)) for part in recipe.command]
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        began = time.perf_counter()
        process = _launch(command, recipe.environment, errors)
        stack.callback(_end, process)
        url = f"http://127.0.0.1:{port}"
        while not answers(f"{url}{recipe.ready}"):
            if process.poll() is not None:
                raise Failed(f"its server ended with {process.returncode}: {_last_line(errors)}")
            if time.perf_counter() - began > PATIENCE:
                raise Failed(f"its server was not ready within {PATIENCE:.0f} s")
            time.sleep(LOOK)
        ready = time.perf_counter() - began
        yield Started(psutil.Process(process.pid), url, began, ready)


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
        raise Failed(f"{command[0]} cannot be started: {error.strerror}") from None


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
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


@dataclass(slots=True)
class Serving:
    """A server that runs through all rounds, for `bench serve`."""

    recipe: Recipe
    _stack: ExitStack = field(default_factory=ExitStack)
    _endpoint: Endpoint | None = None

    @property
    def label(self) -> str:
        return self.recipe.label

    def start(self) -> About:
        found = self._stack.enter_context(started(self.recipe))
        self._endpoint = Endpoint(self.label, found.url, self.recipe.model)
        return self.recipe.about

    def measure(self, case: Case, seed: int) -> Measure:
        assert self._endpoint is not None
        return self._endpoint.measure(case, seed)

    def close(self) -> None:
        self._stack.close()


@dataclass(frozen=True, slots=True)
class Life:
    """A server started anew in each round: how soon it serves, and what it then needs."""

    recipe: Recipe

    @property
    def label(self) -> str:
        return self.recipe.label

    def start(self) -> About:
        return self.recipe.about

    def measure(self, case: Case, seed: int) -> Measure:
        if case.subject == "memory":
            return self._memory(case, seed)
        values = self._run() if self.recipe.run else {}
        with started(self.recipe) as server:
            (reply,) = Endpoint(self.label, server.url, self.recipe.model).streams(1, 1, 1, seed)
            values |= {"ready": server.ready, "first": reply.pieces[0] - server.began}
            values["peak"] = sum(map(peak, family(server.process))) / 1e6
        return Measure(values)

    def close(self) -> None:
        pass

    def _run(self) -> dict[str, float]:
        """From the start of the command to the first byte that it prints."""
        began = time.perf_counter()
        process = subprocess.Popen(
            self.recipe.run,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self.recipe.environment},
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
        """Of the process that holds the model: ours is the worker, a child of the server."""
        with started(self.recipe) as server:
            endpoint = Endpoint(self.label, server.url, self.recipe.model)
            holders = server.process.children() if self.recipe.split else family(server.process)
            loaded = sum(map(pss, holders))
            endpoint.streams(case.context, case.tokens, 1, seed)
            after = sum(map(pss, holders))
            whole = cost(server.process).pss
        plain = after - self.recipe.pool
        values = {"loaded": loaded / 1e6, "after": after / 1e6, "whole": whole / 1e6}
        values |= {"plain": plain / 1e6, "over": plain / self.recipe.bytes}
        return Measure(values)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]
