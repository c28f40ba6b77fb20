"""Requests and events: a refusal on its way, and which event is its request's last."""

import pytest

from bessemer.engine.request import (
    Embedded,
    Event,
    Ranked,
    Refusal,
    Refused,
    Started,
    Token,
    overloaded,
)


@pytest.mark.parametrize(
    "refusal",
    [Refusal(400, "invalid_value", "No.", "stop"), Refusal(503, "busy", "Wait.", None, 7)],
)
def test_a_refusal_arrives_as_it_was(refusal: Refusal) -> None:
    refused = Refused.of(3, refusal)
    arrived = refused.refusal()
    assert refused.request == 3 and str(arrived) == refusal.message
    for name in ("status", "code", "message", "field", "retry_after"):
        assert getattr(arrived, name) == getattr(refusal, name) == getattr(refused, name)


@pytest.mark.parametrize(
    ("event", "over"),
    [
        (Started(1, 0), False),
        (Token(1, [5]), False),
        (Token(1, [], prompt=[]), False),
        (Token(1, [5], "stop"), True),
        (Token(1, [], "length"), True),
        (Embedded(1, [0], b"", 3, False), False),
        (Ranked(1, [0], [0.5], 3, True), True),
        (Refused(1, 400, "code", "No."), True),
    ],
)
def test_the_last_event_says_so(event: Event, over: bool) -> None:
    assert event.over is over


def test_too_many_requests_may_come_again_soon() -> None:
    assert (overloaded().status, overloaded().retry_after) == (503, 1)
