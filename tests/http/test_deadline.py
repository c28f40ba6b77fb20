"""A timer on a clock that the test turns: when it rings, how often, and what moving it costs."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from bessemer.http.deadline import Deadline
from tests.http.wire import Clock, run, settle


class Bell:
    """A deadline, how often it has rung, and how many timers the loop was asked for."""

    def __init__(self) -> None:
        self.loop = cast(Clock, asyncio.get_running_loop())
        self.rung = self.timers = 0
        self._call_at = self.loop.call_at
        self.loop.call_at = self.counted  # type: ignore[method-assign]
        self.deadline = Deadline(self.loop, self.ring)

    def counted(self, when: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return self._call_at(when, callback, *args)

    def ring(self) -> None:
        self.rung += 1

    async def later(self, seconds: float) -> int:
        self.loop.skew += seconds
        await settle()
        return self.rung


def test_it_rings_once() -> None:
    async def main() -> None:
        bell = Bell()
        bell.deadline.set(10)
        assert await bell.later(9) == 0
        assert await bell.later(1.1) == 1
        assert await bell.later(100) == 1
        bell.deadline.set(5)
        assert await bell.later(5.1) == 2

    run(main)


def test_moving_it_on_asks_for_no_timer() -> None:
    async def main() -> None:
        bell = Bell()
        bell.deadline.set(10)
        for _ in range(5):
            await bell.later(1)
            bell.deadline.set(10)
        assert bell.timers == 1
        assert await bell.later(9) == 0  # the first timer has woken up in vain
        assert bell.timers == 2
        assert await bell.later(1.1) == 1

    run(main)


def test_it_can_be_moved_to_an_earlier_time() -> None:
    async def main() -> None:
        bell = Bell()
        bell.deadline.set(100)
        bell.deadline.set(1)
        timers = bell.loop._scheduled  # type: ignore[attr-defined]
        assert sum(not handle.cancelled() for handle in timers) == 1
        assert await bell.later(1.1) == 1
        assert await bell.later(200) == 1

    run(main)


def test_a_cleared_one_is_silent_and_can_be_set_again() -> None:
    async def main() -> None:
        bell = Bell()
        bell.deadline.set(10)
        bell.deadline.clear()
        assert await bell.later(11) == 0 and bell.timers == 1  # none that would never ring
        bell.deadline.set(10)
        bell.deadline.clear()
        bell.deadline.set(20)
        assert await bell.later(11) == 0
        assert await bell.later(10) == 1

    run(main)


def test_closing_leaves_no_timer() -> None:
    async def main() -> None:
        bell = Bell()
        bell.deadline.set(10)
        [handle] = bell.loop._scheduled  # type: ignore[attr-defined]
        bell.deadline.close()
        assert handle.cancelled()
        assert await bell.later(11) == 0

    run(main)
