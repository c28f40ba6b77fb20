"""A provider that says what a test has it say: a real HTTP server on loopback, in threads."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

TIMEOUT = 30  # seconds, which only what hangs takes


@dataclass(frozen=True)
class Asked:
    """A request as it came: `lines` are those of its head, `connection` counts from 1."""

    method: str
    target: str
    lines: tuple[str, ...]
    body: bytes
    connection: int

    @property
    def headers(self) -> dict[str, str]:
        pairs = (line.partition(":") for line in self.lines)
        return {name.lower(): value.strip() for name, _, value in pairs}


@dataclass
class Wire:
    """The provider's end of a connection."""

    socket: socket.socket
    open: bool = True

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, body: bytes, status: str = "200 OK", *headers: str) -> None:
        """Send a whole answer of JSON, unless a header says otherwise."""
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
        if not any(each.startswith("content-type") for each in headers):
            lines.append("content-type: application/json")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def begin(self, *headers: str, kind: str = "text/event-stream") -> None:
        """Send the head of a stream."""
        lines = ["HTTP/1.1 200 OK", f"content-type: {kind}", "transfer-encoding: chunked"]
        self.send("\r\n".join([*lines, *headers, "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    def close(self) -> None:
        self.open = False
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def closed(self) -> bool:
        """Wait until the client has closed its end; return whether it has."""
        with suppress(ConnectionError):
            return self.socket.recv(1) == b""
        return True


Script = Callable[[Asked, Wire], None]


@dataclass
class Fake:
    """What was asked of it, in order, and how many connections there were."""

    script: Script
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    wires: list[Wire] = field(default_factory=list)
    secure: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                accepted.settimeout(TIMEOUT)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                wire = Wire(accepted)
                self.wires.append(wire)
                threading.Thread(
                    target=self._converse, args=(wire, self.connections), daemon=True
                ).start()

    def _converse(self, wire: Wire, number: int) -> None:
        with suppress(OSError):
            if self.secure is not None:
                wire.socket = self.secure.wrap_socket(wire.socket, server_side=True)
        with suppress(OSError), wire.socket, wire.socket.makefile("rb") as read:
            while wire.open and (first := read.readline()):
                method, target, _ = first.decode().split(" ")
                lines = [*iter(lambda: read.readline().decode().strip(), "")]
                asked = Asked(method, target, tuple(lines), b"", number)
                body = read.read(int(asked.headers.get("content-length", "0")))
                asked = Asked(method, target, tuple(lines), body, number)
                self.asked.append(asked)
                self.script(asked, wire)


@contextmanager
def provider(script: Script, secure: ssl.SSLContext | None = None) -> Iterator[Fake]:
    fake = Fake(script, secure=secure)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fake.port = listener.getsockname()[1]
        thread = threading.Thread(target=fake.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT)
            for wire in fake.wires:
                wire.close()
