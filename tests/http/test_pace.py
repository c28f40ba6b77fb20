"""The work on events that a turn of the event loop does, for all streams together."""

import asyncio
from itertools import count

from bessemer.http.pace import EACH, WORK, Pace


async def read(pace: Pace, turn: "asyncio.Task[None]", done: list[int], scores: int) -> None:
    while not turn.done():
        await pace.turn(scores)
        done[-1] += EACH + scores


def works(streams: int, scores: int, turns: int = 50) -> list[int]:
    """Return what was done in each turn while so many streams always have an event."""

    async def main() -> list[int]:
        pace, done = Pace(), [0]

        async def watch() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
                done.append(0)

        watching = asyncio.create_task(watch())
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(read(pace, watching, done, scores))
        return done[9:-2]  # by then each turn begins with the watch

    return asyncio.run(main())


def test_a_turn_does_so_much_for_one_stream_as_for_many_and_for_large_events_as_for_small() -> None:
    for streams, scores in ((1, 0), (100, 0), (10, 336), (500, 21), (3, 5 * WORK)):
        done = works(streams, scores)
        most = WORK + EACH + scores
        assert max(done) <= most and sum(done) > len(done) * WORK / 3, (streams, scores, done)


def test_streams_take_turns_and_one_that_is_closed_takes_none() -> None:
    async def main() -> list[str]:
        pace, order, left = Pace(), list[str](), count()

        async def stream(name: str) -> None:
            while next(left) < 400:
                await pace.turn(WORK // 4)
                order.append(name)

        tasks = [asyncio.create_task(stream(name)) for name in "abcdef"]
        await asyncio.sleep(0)
        tasks[5].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    order = asyncio.run(main())
    assert order[5:100].count("a") == order[5:100].count("e") == 19 and "f" not in order


def test_who_comes_back_turns_after_a_large_event_has_one() -> None:
    async def main() -> None:
        pace = Pace()
        await pace.turn(5 * WORK)
        await pace.turn(5 * WORK)
        for _ in range(5):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await pace.turn(0)

    asyncio.run(main())
