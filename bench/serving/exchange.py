"""One POST over a connection of its own, as a test of a server under load looks at it."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import h11

ENDS = ("[DONE]", "message_stop")
PATIENCE = 120.0  # seconds after which an exchange counts as one that hangs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an exchange: its text, how it ended, and an error's code in the body or stream.

    A status of 0 is a connection that ended without one; `left`: it was us who hung up.
    """

    status: int = 0
    text: str = ""
    whole: bool = False
    error: str = ""
    retry_after: str = ""
    left: bool = False
    seconds: float = 0.0

    @property
    def proper(self) -> bool:
        """Whether a client knows where it stands: a whole answer, or a refusal that says why."""
        if self.left or (self.status == 200 and (self.whole or self.error)):
            return True
        return self.status >= 400 and self.status != 500 and bool(self.error)


async def post(
    port: int, path: str, body: dict[str, Any], leave: float | None = None, key: str = ""
) -> Outcome:
    """POST and read to the end, or hang up after `leave` seconds."""
    data = json.dumps(body).encode()
    head = [("host", f"127.0.0.1:{port}"), ("content-length", str(len(data)))]
    head += [("content-type", "application/json"), ("connection", "close")]
    head += [("authorization", f"Bearer {key}")] if key else []
    client = h11.Connection(h11.CLIENT)
    request = client.send(h11.Request(method="POST", target=path, headers=head)) or b""
    began = asyncio.get_running_loop().time()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return Outcome()
    try:
        writer.write(request + data)
        client.send(h11.Data(data=data))
        client.send(h11.EndOfMessage())
        async with asyncio.timeout(PATIENCE if leave is None else leave):
            raw = await _to_end(reader)
    except TimeoutError:
        return Outcome(left=leave is not None)
    except OSError:
        return Outcome()
    finally:
        writer.close()
    return read(client, raw, asyncio.get_running_loop().time() - began)


async def _to_end(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while part := await reader.read(1 << 16):
        parts.append(part)
    return b"".join(parts)


def read(client: h11.Connection, raw: bytes, seconds: float) -> Outcome:
    """Read what a server sent before it hung up."""
    client.receive_data(raw)
    client.receive_data(b"")
    status, after, body, ended = 0, "", b"", False
    try:
        while not ended:
            match client.next_event():
                case h11.Response() as response:
                    status = response.status_code
                    after = dict(response.headers).get(b"retry-after", b"").decode()
                case h11.Data(data=piece):
                    body += piece
                case h11.EndOfMessage() | h11.ConnectionClosed():
                    ended = True
                case h11.NEED_DATA | h11.PAUSED:
                    break
    except h11.RemoteProtocolError:
        pass
    text, whole, error = _streamed(body) if b"data: " in body[:200] else _plain(body)
    return Outcome(status, text, whole and ended and not error, error, after, seconds=seconds)


def _plain(body: bytes) -> tuple[str, bool, str]:
    try:
        answer = json.loads(body)
    except ValueError:
        return "", False, ""
    if error := answer.get("error"):
        return "", True, str(error.get("code") or error.get("type"))
    parts = answer.get("content") or answer.get("choices") or ()
    return "|".join(map(_said, parts)), True, ""


def _streamed(body: bytes) -> tuple[str, bool, str]:
    texts: dict[int, str] = {}
    whole, error = False, ""
    for line in body.decode().splitlines():
        data = line.removeprefix("data: ")
        if data == line or data == "[DONE]":
            whole = whole or data == "[DONE]"
            continue
        event = json.loads(data)
        whole = whole or event.get("type") == "message_stop"
        if found := event.get("error"):
            error = str(found.get("code") or found.get("type"))
        for choice in event.get("choices") or [event]:
            index = choice.get("index", 0)
            texts[index] = texts.get(index, "") + _said(choice)
    return "|".join(texts[index] for index in sorted(texts)), whole, error


def _said(part: dict[str, Any]) -> str:
    inner = part.get("message") or part.get("delta") or part
    return str(inner.get("content") or inner.get("text") or "")
