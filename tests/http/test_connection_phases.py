"""A connection's tables: what every event does in every phase, and how long a phase lasts."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from bessemer.http.connection import LINGER, Connection
from bessemer.http.limits import ConnectionLimits
from bessemer.http.message import HttpRequest, Reply, Response
from bessemer.http.phase import DEADLINES, FOLLOWERS, OVERDUE, Phase
from tests.http.wire import GET, POST, Client, client, run, settle

IDLE, HEADER, BODY, ANSWERING, LINGERING, CLOSING = Phase
BEGINNINGS = {
    IDLE: b"",
    HEADER: GET[:9],
    BODY: POST[:-2],
    ANSWERING: GET,
    LINGERING: b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
    CLOSING: b"GET /large HTTP/1.0\r\n\r\n",
}
RESTS = {IDLE: GET, HEADER: GET[9:], BODY: POST[-2:]}  # what makes a request whole
OUTCOMES = {  # what each event leads to; "-" is nothing, "never" an error
    #        IDLE     HEADER   BODY      ANSWERING  LINGERING CLOSING
    "DATA": ("whole", "whole", "whole",  "keep",    "-",      "-"),
    "MORE": ("watch", "-",     "watch",    "never",   "-",      "-"),
    "END":  ("close", "400",   "400",    "H",       "close",  "-"),
    "GONE": ("-",     "-",     "-",      "cancel",  "-",      "-"),
    "OVER": ("never", "never", "never",  "idle",    "never",  "-"),
    "FULL": ("watch", "watch", "watch",  "watch",   "-",      "watch"),
    "FREE": ("-",     "-",     "-",      "unwatch", "-",      "-"),
    "LATE": ("close", "408",   "408",    "H",       "abort",  "never"),
    "SLOW": ("abort", "abort", "abort",  "abort",   "abort",  "abort"),
    "STOP": ("close", "-",     "-",      "-",       "-",      "watch"),
    "CUT":  ("abort", "abort", "abort",  "cancel",  "abort",  "abort"),
}  # fmt: skip
PHASES = {
    "whole": ANSWERING,
    "idle": IDLE,
    "408": LINGERING,
    "400": LINGERING,
}  # where an outcome changes it


@asynccontextmanager
async def client_in(phase: Phase) -> AsyncGenerator[tuple[Client, asyncio.Event], None]:
    """Yield a client whose connection is in `phase`, and what lets the handler answer.

    In CLOSING it has read nothing of the answer.
    """
    gate = asyncio.Event()

    async def handler(request: HttpRequest) -> Reply:
        if request.path != "/large":
            await gate.wait()
        return Response(200, b"x" * 100)

    async with client(handler) as c:
        c.wire.reading = phase is not CLOSING
        await c.send(BEGINNINGS[phase])
        assert c.connection._phase is phase
        yield c, gate


def outcome(c: Client, due: float, writes: int) -> str:
    """Return what an event did, as far as it shows at once."""
    task, now = c.connection._task, c.connection._deadline._due
    if c.wire.aborted:
        return "abort"
    if task is not None and task.cancelling():
        return "cancel"
    if len(c.wire.writes) > writes:
        return c.wire.data.split()[-1 if c.wire.data == b"H" else 1].decode()
    if c.wire.closed:
        return "close"
    return "-" if now == due else "watch" if now < math.inf else "unwatch"


@pytest.mark.parametrize("event", OUTCOMES)
@pytest.mark.parametrize("phase", Phase)
def test_every_event_in_every_phase(phase: Phase, event: str) -> None:
    oracle = OUTCOMES[event][phase]

    async def main() -> None:
        async with client_in(phase) as (c, gate):
            act = getattr(Connection, event)[phase]
            if oracle == "never":
                with pytest.raises(RuntimeError, match=phase.name):
                    act(c.connection)
            elif oracle == "idle":
                gate.set()
                await settle()
            elif event == "DATA":
                act(c.connection, RESTS.get(phase, b"more"))
                ahead = c.connection._inbox.endswith(b"more")
                assert (ahead, c.wire.aborted) == (oracle == "keep", False)
            else:
                c.connection._deadline.set(1000)  # so that another or none shows
                due, writes = c.connection._deadline._due, len(c.wire.writes)
                act(c.connection)
                assert outcome(c, due, writes) == oracle
            hung_up = oracle == "close" and phase is IDLE
            after = CLOSING if hung_up else PHASES.get(oracle, phase)
            assert c.connection._phase is after

    run(main)


def test_the_tables_have_a_place_for_every_phase() -> None:
    assert len(FOLLOWERS) == len(Phase)
    rows = {name: row for name, row in vars(Connection).items() if name.isupper()}
    assert set(rows) == set(OUTCOMES)
    for event, row in rows.items():
        assert len(row) == len(OUTCOMES[event]) == len(Phase)
    assert set(OVERDUE) == {phase for phase in Phase if OUTCOMES["LATE"][phase] == "408"}
    assert all(hasattr(ConnectionLimits(), field) for field in DEADLINES.values())


@pytest.mark.parametrize("before", Phase)
@pytest.mark.parametrize("after", Phase)
def test_what_may_not_follow_raises(before: Phase, after: Phase) -> None:
    async def main() -> None:
        async with client_in(before) as (c, _):
            if after in FOLLOWERS[before]:
                c.connection._enter(after)
                assert c.connection._phase is after
            else:
                with pytest.raises(RuntimeError, match=f"{after.name}.*{before.name}"):
                    c.connection._enter(after)
                assert c.connection._phase is before
            if c.connection._task is not None:  # its end would find a phase that it cannot have
                c.connection._phase = ANSWERING

    run(main)


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [(IDLE, 10.0), (HEADER, 10.0), (BODY, 30.0), (LINGERING, LINGER[0]),
     (CLOSING, 60.0), (ANSWERING, None)],
)  # fmt: skip
def test_how_long_a_phase_lasts(phase: Phase, seconds: float | None) -> None:
    async def main() -> None:
        async with client_in(phase) as (c, _):
            if seconds is None:
                await c.later(10_000)
                assert c.connection._phase is phase and not c.wire.closing
                return
            await c.later(seconds - 0.5)
            assert c.connection._phase is phase and not c.wire.closed
            await c.later(0.6)
            assert c.wire.closed or c.answers()[0][0] == 408

    run(main)


def test_a_deadline_asks_first_whether_the_client_reads() -> None:
    async def main() -> None:
        for phase in (IDLE, HEADER, BODY):
            async with client_in(phase) as (c, _):
                c.connection.pause_writing()
                await c.later(61)
                assert c.wire.aborted and c.answers() == []
        async with client_in(LINGERING) as (c, _):
            c.connection.pause_writing()
            await c.later(LINGER[0] + 0.1)
            assert c.wire.aborted

    run(main)
