"""What is read of answers of other servers."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from bessemer.translate.chat import Answer, AnswerStarted, Done, Event, Heartbeat
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.output import Collector
from bessemer.translate.upstream.upstream import Upstream


def streamed(
    upstream: Upstream, bodies: Iterable[dict[str, Any]], whole: bool = True
) -> list[Event]:
    """Return the events of a stream, which is over after the last of it, and not before."""
    decoder = upstream.stream()
    events: list[Event] = []
    for body in bodies:
        assert not decoder.over
        events += decoder.decode(ServerEvent(json.dumps(body).encode(), body["type"]))
    assert decoder.over == whole
    if whole:
        assert isinstance(events[0], AnswerStarted) and isinstance(events[-1], Done)
        assert sum(isinstance(event, AnswerStarted | Done) for event in events) == 2
    return events


def answer(events: Sequence[Event]) -> Answer:
    """Return the answer that events come to."""
    collector = Collector(1)
    for event in events:
        collector.add(event)
    return collector.answer()


def told(events: Sequence[Event]) -> list[Event]:
    """Return the events but for signs of life."""
    return [event for event in events if not isinstance(event, Heartbeat)]
