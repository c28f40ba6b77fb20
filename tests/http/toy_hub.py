"""A hub on this machine whose weights come in a trickle that never ends."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bessemer.http.hub import BUILT_IN

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
COMMIT = "a" * 40
SIZE = 500_000_000


@dataclass(frozen=True)
class Hub:
    url: str
    trickles: threading.Event  # set once some of the weights are on their way


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    trickles: threading.Event

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        name = self.path.rpartition("/")[2]
        size = SIZE if name == FILES[-1] else (BUILT_IN / name).stat().st_size
        about = {"etag": f'"{len(name):040}"', "x-repo-commit": COMMIT}
        self.answer(size, about)

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/"):
            files = [{"type": "file", "path": file, "size": 1, "oid": COMMIT} for file in FILES]
            about = {"id": "org/toy", "sha": COMMIT, "siblings": [{"rfilename": f} for f in FILES]}
            body = json.dumps(files if "/tree/" in self.path else about).encode()
            self.answer(len(body), {"content-type": "application/json"})
            self.wfile.write(body)
            return
        self.do_HEAD()
        if name != FILES[-1]:
            self.wfile.write((BUILT_IN / name).read_bytes())
            return
        self.trickle()

    def trickle(self) -> None:
        try:
            while True:
                self.wfile.write(b"x" * 1000)
                self.trickles.set()
                time.sleep(0.02)
        except OSError:
            pass

    def answer(self, size: int, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in (headers | {"content-length": str(size)}).items():
            self.send_header(name, value)
        self.end_headers()


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has gone


@contextmanager
def trickling() -> Iterator[Hub]:
    handler = type("Trickling", (Handler,), {"trickles": threading.Event()})
    with QuietServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", handler.trickles)
        server.shutdown()
