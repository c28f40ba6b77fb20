"""GET /health over backends in any states."""

import asyncio
import json
from typing import Any

import pytest

from bessemer.http.backends import Backends, Status
from bessemer.http.body import Body
from bessemer.http.handlers.health import CheckHealth
from bessemer.http.message import HttpRequest, Response

READY = Status("ready")
AGAIN = Status("restarting", retry_after=7)
LOADING = Status("loading", stage="reading weights", retry_after=4)
DOWN = Status("down", retry_after=30, why="memory was short")
HANGS = Status("not responding", retry_after=9)


class Model:
    def __init__(self, status: Status) -> None:
        self._status = status

    def status(self) -> Status:
        return self._status


def check(*states: Status) -> tuple[Response, Any]:
    models: Any = {f"m{at}": Model(state) for at, state in enumerate(states)}
    request = HttpRequest("GET", "/health", "", (), Body(), "local", "req")
    response = asyncio.run(CheckHealth(Backends(models))(request))
    return response, json.loads(response.body)


@pytest.mark.parametrize(
    ("states", "code", "status", "wait"),
    [
        ((READY, READY), 200, "ok", None),
        ((READY, AGAIN), 200, "degraded", None),
        ((LOADING, READY), 200, "loading", None),
        ((LOADING, READY, AGAIN), 200, "degraded", None),
        ((HANGS, READY), 200, "degraded", None),
        ((LOADING,), 503, "loading", b"4"),
        ((AGAIN, LOADING), 503, "loading", b"4"),
        ((AGAIN, HANGS), 503, "down", b"7"),
        ((HANGS,), 503, "down", b"9"),
        ((DOWN,), 503, "down", b"30"),
        ((DOWN, READY), 200, "degraded", None),
    ],
)
def test_one_word_for_all(
    states: tuple[Status, ...], code: int, status: str, wait: bytes | None
) -> None:
    response, body = check(*states)
    assert (response.status, body["status"]) == (code, status)
    assert dict(response.headers).get(b"retry-after") == wait
    assert list(body["models"].values()) == [state.state for state in states]


def test_loading_says_how_far_it_is() -> None:
    assert check(READY, LOADING)[1]["loading"] == {"m1": "reading weights"}
    assert "loading" not in check(READY, AGAIN)[1]


def test_a_model_that_stays_down_says_why() -> None:
    assert check(READY, DOWN)[1]["down"] == {"m1": "memory was short"}
    assert "down" not in check(READY, AGAIN)[1]
