"""A real server in a process of its own, and plain requests to it."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bessemer.http.hub import BUILT_IN

COMMAND = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from bessemer.http.cli import main; sys.exit(main())",
]


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int
    banner: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[psutil.Process]:
        return self._children("bessemer.engine.worker")

    def templates(self) -> list[psutil.Process]:
        """Return the processes that hold the models' chat templates."""
        return self._children("bessemer.http.template_process")

    def _children(self, module: str) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if _runs(child, module)]

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, decoded JSON and headers; `body` may be bytes that are no JSON at all."""
        connection = self.connect(timeout)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return (
            response.status,
            json.loads(text or b"null"),
            {name.lower(): value for name, value in response.getheaders()},
        )

    def stream(self, path: str, body: Any) -> Iterator[tuple[str | None, Any]]:
        """Yield the server-sent events of an answer: name and data ("[DONE]" as it stands)."""
        with closing(self.connect()) as connection:
            connection.request("POST", path, json.dumps(body | {"stream": True}).encode())
            with connection.getresponse() as response:
                assert response.status == 200, response.read()
                yield from events(response)


def _runs(process: psutil.Process, module: str) -> bool:
    try:
        return module in process.cmdline()
    except psutil.Error:  # it has just ended
        return False


def events(lines: Iterable[bytes]) -> Iterator[tuple[str | None, Any]]:
    name = None
    for line in lines:
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            name = text.removeprefix("event: ")
        elif text.startswith("data: "):
            data = text.removeprefix("data: ")
            yield name, data if data == "[DONE]" else json.loads(data)
            name = None


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[Server]:
    """Run `bessemer serve` on a free port until the block ends; it must then end by itself."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--log-level", "warning", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("  curl"):
            break
    match = re.search(r"http://127\.0\.0\.1:(\d+)", "".join(lines))
    assert match, lines
    try:
        yield Server(process, int(match[1]), "".join(lines))
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def eventually(condition: Any, seconds: float = 60) -> bool:
    """Return whether a condition comes true while there is any hope; timing decides no more."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def guide_copy(directory: Path, **changes: Any) -> Path:
    """Copy the built-in model to another directory; `changes` go into its tokenizer_config.json."""
    shutil.copytree(BUILT_IN, directory)
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory
