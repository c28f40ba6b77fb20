"""Server-sent events as bytes (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from ..translate.chat import ServerEvent


def frame(event: ServerEvent) -> bytes:
    if event.name is None:
        return b"data: %b\n\n" % event.data
    return b"event: %b\ndata: %b\n\n" % (event.name.encode(), event.data)
