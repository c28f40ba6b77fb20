"""What is asked of a worker in each of its states, by a scripted process and a clock of the test's.

Rows: booting, ready, hung up (the socket closes, nobody was told), resting before a restart,
booting again, stopped. Columns: a request is submitted, cancelled, and its client leaves.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from bessemer.engine.request import Refusal, Started, Token
from bessemer.http.fleet import State
from bessemer.http.local import GenerationBackend, Patience
from bessemer.translate.chat import AnswerStarted, Chat
from tests.http.scripted_worker import (
    READY,
    ScriptedFleet,
    ScriptedProcess,
    later,
    refused,
    request,
    scenario,
    timers,
)
from tests.http.wire import settle
from tests.translate.test_answer import HELLO, RENDERER, TEMPLATE


async def booting(scripted: ScriptedFleet) -> None:
    await scripted.start()


async def ready(scripted: ScriptedFleet) -> None:
    await scripted.started()


async def hung_up(scripted: ScriptedFleet) -> None:
    (await scripted.started()).closing = True


async def resting(scripted: ScriptedFleet) -> None:
    (await scripted.started()).die()
    await settle()
    await later(0.1)  # the first restart is immediate
    scripted.process.die()
    await settle()


async def booting_again(scripted: ScriptedFleet) -> None:
    (await scripted.started()).die()
    await settle()
    await later(0.1)
    assert len(scripted.processes) == 2


async def stopped(scripted: ScriptedFleet) -> None:
    await scripted.started()
    await scripted.worker.stop()


Reach = Callable[[ScriptedFleet], Coroutine[Any, Any, None]]
STATES: dict[Reach, tuple[State, str]] = {
    booting: (State.LOADING, "model_loading"),
    ready: (State.READY, ""),
    hung_up: (State.READY, "worker_died"),
    resting: (State.RESTARTING, "worker_died"),
    booting_again: (State.LOADING, "model_loading"),
    stopped: (State.STOPPED, "shutting_down"),
}
ALL = pytest.mark.parametrize("reach", STATES, ids=lambda each: each.__name__)


@ALL
def test_a_request_is_sent_or_refused_at_once(reach: Reach) -> None:
    state, code = STATES[reach]

    async def main(scripted: ScriptedFleet) -> None:
        await reach(scripted)
        assert scripted.worker.state is state
        sent = [len(each.sent) for each in scripted.processes]
        if not code:
            stream = scripted.worker.open([request(7)], 1.0)
            scripted.process.step(Token(7, [5], "stop"))
            assert await stream.next() == Token(7, [5], "stop")
            stream.close()
            assert scripted.process.requests == [7] and not scripted.process.cancelled
            return
        with pytest.raises(Refusal) as caught:
            scripted.worker.open([request()], 1.0)
        said = caught.value
        assert (said.status, said.code) == (503, code) and (said.retry_after or 0) >= 1
        assert [len(each.sent) for each in scripted.processes] == sent and timers() == []
        await settle()

    scenario(main)


@ALL
def test_what_is_under_way_goes_on_or_is_refused_once(reach: Reach) -> None:
    """A stream was opened; then its worker comes into the state; then it is cancelled."""
    if reach is booting:
        return  # nothing is under way

    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        stream = scripted.worker.open([request(1), request(2)], 1.0)
        process.step(Token(1, [5], "stop"))

        async def again() -> ScriptedProcess:
            return process

        scripted.started = again  # type: ignore[method-assign]
        await reach(scripted)
        assert await stream.next() == Token(1, [5], "stop")
        if reach in (ready, hung_up):
            stream.close()
            assert process.cancelled == ([2] if reach is ready else [])
            process.step(Token(2, [6]))  # was on its way; nobody hears it
        else:
            said = await refused(stream)
            assert (said.request, said.status) == (2, 503) and (said.retry_after or 0) >= 1
            assert said.code == ("shutting_down" if reach is stopped else "worker_died")
            stream.close()
            assert not any(each.cancelled for each in scripted.processes)
        assert timers() == []

    scenario(main)


class Here:
    """A template in this process, which waits for the test."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def render(self, chat: Chat, limit: int) -> str:
        self.asked.set()
        await self.go.wait()
        return TEMPLATE.render(chat, limit)


def backend(scripted: ScriptedFleet, template: Here) -> GenerationBackend:
    here: Any = template
    return GenerationBackend("m", 7, scripted.worker, here, RENDERER, 50, Patience())


@ALL
@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
def test_a_worker_that_changes_while_a_prompt_is_rendered(reach: Reach, leaves: bool) -> None:
    """The request comes while all is well; its prompt is ready when the worker is as `reach`."""
    if reach is booting:
        return

    async def main(scripted: ScriptedFleet) -> None:
        first, template = await scripted.started(), Here()
        answer = asyncio.create_task(_first_event(backend(scripted, template)))
        await template.asked.wait()

        async def again() -> ScriptedProcess:
            return first

        scripted.started = again  # type: ignore[method-assign]
        await reach(scripted)
        template.go.set()
        if leaves:
            answer.cancel()
            await settle()
            assert answer.cancelled() and not any(each.requests for each in scripted.processes)
            return
        await settle()
        if reach in (resting, booting_again):  # it is waited for
            await later(1.0)
            await settle()
            if not answer.done():
                scripted.process.ready()
                await settle()
        if not answer.done():
            (number,) = scripted.process.requests
            scripted.process.step(Started(number, 0))
            assert isinstance(await answer, AnswerStarted)
            assert scripted.process.cancelled == [number]
        else:
            error = answer.exception()
            assert isinstance(error, Refusal) and error.status == 503
            assert (error.retry_after or 0) >= 1 and reach in (hung_up, stopped)

    scenario(main)


async def _first_event(model: GenerationBackend) -> Any:
    async with aclosing(model.events(Chat("m", HELLO))) as events:
        return await anext(events)


def test_a_client_that_leaves_is_cancelled_in_the_worker() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process, template = await scripted.started(), Here()
        template.go.set()
        answer = asyncio.create_task(_first_event(backend(scripted, template)))
        await settle()
        (number,) = process.requests
        answer.cancel()
        await settle()
        assert process.cancelled == [number]
        process.step(Started(number, 0), Token(number, [300]))
        assert timers() == []

    scenario(main)


# Waiting


def test_a_restart_is_waited_for_as_long_as_it_is_near() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        await booting_again(scripted)
        waiting = asyncio.create_task(scripted.worker.available(5))
        await settle()
        scripted.process.ready()
        assert await waiting == READY
        scripted.process.die()
        waiting = asyncio.create_task(scripted.worker.available(5))
        await settle()
        await later(5.1)
        with pytest.raises(Refusal, match=r"being loaded \(starting\)"):
            await waiting

    scenario(main)


def test_who_waits_for_a_restart_is_told_of_the_stop() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        await booting_again(scripted)
        waiting = asyncio.create_task(scripted.worker.available(5))
        await settle()
        await scripted.worker.stop()
        with pytest.raises(Refusal) as caught:
            await waiting
        assert (caught.value.code, caught.value.retry_after) == ("shutting_down", 5)

    scenario(main)
