"""A proxy before a server, which keeps what clients send and what they are answered."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OF_A_HOP = {"connection", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Exchange:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    answer: bytes


@contextmanager
def recording(port: int) -> Iterator[tuple[str, list[Exchange]]]:
    """Yield the address of a proxy before that port, and what has passed it so far."""
    passed: list[Exchange] = []

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            with closing(HTTPConnection("127.0.0.1", port, timeout=600)) as server:
                sent = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                server.request(self.command, self.path, body or None, sent)
                answer = server.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in OF_A_HOP:
                        self.send_header(name, value)
                self.end_headers()
                told = b""
                while piece := answer.read1():
                    told += piece
                    self.wfile.write(piece)
            about = (self.command, self.path, dict(self.headers), body, answer.status, told)
            passed.append(Exchange(*about))

        do_GET = do_HEAD = do_POST = _pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}", passed
        finally:
            proxy.shutdown()
            thread.join()
