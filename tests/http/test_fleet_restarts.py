"""A worker's deaths and restarts: back-off, the first start, the watchdog, what the next gets."""

import asyncio
from typing import Any

import pytest

from bessemer.engine.request import Refusal, StepReport
from bessemer.engine.wire import Configure, Pulse, StepResult, Submit
from bessemer.http import fleet
from bessemer.http.fleet import BACK_OFF, StartError, State
from bessemer.http.shortage import DEATHS
from tests.http.scripted_worker import (
    LIMITS,
    READY,
    ScriptedFleet,
    ScriptedProcess,
    later,
    refused,
    request,
    scenario,
    timers,
    wait,
)
from tests.http.wire import settle

# Back-off


def test_the_first_crash_is_retried_at_once_and_those_after_it_later_and_later() -> None:
    assert BACK_OFF[0] == 0 and [*BACK_OFF] == sorted(BACK_OFF) and BACK_OFF[-1] == 30

    async def main(scripted: ScriptedFleet) -> None:
        await scripted.started()
        for crash, delay in enumerate([*BACK_OFF, BACK_OFF[-1]]):
            assert len(scripted.processes) == crash + 1
            scripted.process.die()
            said = scripted.worker.unavailable()
            assert said.code == "worker_died" and said.retry_after is not None
            assert delay < said.retry_after <= delay + 2
            if delay:
                await later(delay - 0.1)
                assert len(scripted.processes) == crash + 1
                assert scripted.worker.retry_after <= 2
            await later(0.2)
            assert len(scripted.processes) == crash + 2
            scripted.process.ready()
            await settle()

    scenario(main)


def test_a_worker_that_served_for_long_is_restarted_at_once_however_long_it_loads() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        await scripted.started()
        for _ in range(4):
            await wait(fleet.STABLE + 1, alive=scripted.process)
            scripted.process.die()
            await later(0.1)
            scripted.process.ready()
        assert len(scripted.processes) == 5
        await wait(fleet.STABLE - 1, alive=scripted.process)
        scripted.process.die()  # too soon to be a first death
        await later(0.1)
        assert len(scripted.processes) == 5
        await later(0.5)
        await wait(fleet.STABLE + 1, alive=scripted.process)  # of loading, which is no service
        scripted.process.die()
        await later(0.6)
        assert len(scripted.processes) == 6

    scenario(main)


def test_deaths_for_memory_are_remembered_for_longer_than_others() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.start()
        for _ in range(DEATHS):
            assert scripted.worker.state is not State.DOWN
            process.ready()
            await wait(fleet.STABLE + 1, alive=process)
            scripted.kills += 1
            process.die(-9)
            await later(0.1)
            process = scripted.process
        assert scripted.worker.state is State.DOWN and len(scripted.processes) == DEATHS

    scenario(main)


def test_retry_after_counts_down_and_knows_how_long_loading_takes() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.start()
        assert scripted.worker.retry_after in (1, 2) and scripted.worker.seconds == 0
        await wait(20, alive=process)
        assert 5 < scripted.worker.retry_after <= 30  # nobody knows
        process.ready()
        assert 19.9 < scripted.worker.seconds < 21 and scripted.worker.retry_after == 1
        process.die()
        assert scripted.worker.retry_after == 21
        with pytest.raises(Refusal) as caught:  # at once: it cannot be ready in time
            await scripted.worker.available(5)
        assert caught.value.retry_after == 21
        await later(0.1)
        await wait(12, alive=scripted.process)
        assert scripted.worker.retry_after in (8, 9)
        scripted.process.die()
        assert scripted.worker.retry_after in (21, 22)

    scenario(main)


def test_no_process_to_be_had_is_tried_again() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        scripted.failing = OSError(11, "Resource temporarily unavailable")
        process.die()
        await later(0.1)
        assert scripted.worker.unavailable().retry_after == 2
        scripted.failing = None
        await later(0.6)
        assert len(scripted.processes) == 2

    assert "cannot be started: [Errno 11] Resource temporarily unavailable" in scenario(main)


# The first start


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda process: process.fail("no weights"), "m: no weights"),
        (lambda process: process.die(-9), r"its worker process was ended by SIGKILL, .*memory"),
        (lambda process: process.die(3), "its worker process ended with exit code 3"),
    ],
)
def test_a_first_process_that_dies_is_the_end(end: Any, words: str) -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.start()
        end(process)
        assert scripted.starting is not None
        with pytest.raises(StartError, match=words):
            await scripted.starting
        await later(100)
        assert len(scripted.processes) == 1

    scenario(main)


def test_a_first_process_that_hangs_is_started_anew_and_the_third_is_the_end() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.start()
        process.say(Pulse("reading weights", 1, 0.0))
        await wait(LIMITS.silence + 2)
        await later(0.1)
        assert process.killed and len(scripted.processes) == 2
        for _ in range(2):
            scripted.process.say(Pulse("reading weights", 1, 0.0))
            await wait(LIMITS.silence + 2)
            await later(1)
        assert scripted.starting is not None
        with pytest.raises(StartError, match="hung: it gave no sign of life for 8 s"):
            await scripted.starting
        assert len(scripted.processes) == 3

    scenario(main)


def test_a_first_process_that_hung_once_serves_in_the_end() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.start()
        process.say(Pulse("reading weights", 1, 0.0))
        await wait(LIMITS.silence + 2)
        await later(0.1)
        scripted.process.ready()
        assert scripted.starting is not None and await scripted.starting == READY

    scenario(main)


# The watchdog


async def _is_killed(process: ScriptedProcess, seconds: float, *, pulse: Pulse | None) -> bool:
    for _ in range(int(seconds / LIMITS.tick)):
        if pulse is not None:
            process.say(pulse)
        await later(LIMITS.tick)
    return process.killed


@pytest.mark.parametrize(
    ("pulse", "lasts", "ends"),
    [
        (None, LIMITS.silence - 1, LIMITS.silence + 3),
        (Pulse("step", 5, 0.0), LIMITS.standstill - 2, LIMITS.standstill + 3),
    ],
    ids=["silent", "stuck in a step"],
)
def test_a_worker_that_hangs_is_ended_and_restarted(
    pulse: Pulse | None, lasts: float, ends: float
) -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        process.say(Pulse("step", 5, 0.0))
        stream = scripted.worker.open([request(1)], 1000.0)
        assert not await _is_killed(process, lasts, pulse=pulse)
        assert scripted.worker.hangs == (pulse is None)
        assert await _is_killed(process, ends - lasts, pulse=pulse)
        said = await refused(stream)
        assert (said.code, said.retry_after) == ("worker_died", 1) and not scripted.worker.hangs
        stream.close()
        process.ready()  # what it said before it was ended counts no more
        await later(0.1)
        assert scripted.worker.ready is None or len(scripted.processes) == 2
        scripted.process.ready()
        assert scripted.worker.state is State.READY

    assert "the worker of m hung: it " in scenario(main)


def test_a_worker_that_gets_on_is_never_ended() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.start()
        for tensor in range(200):  # of a load that takes longer than anything may last
            process.say(Pulse("reading weights", tensor, 0.0))
            await later(LIMITS.tick)
        assert scripted.worker.stage == "reading weights"
        process.ready()
        for _ in range(200):  # without work, with steps that are long, with steps alone
            process.say(Pulse("", 1000, 0.0))
            await later(LIMITS.tick)
        for step in range(200):
            process.say(Pulse("step", 1001 + step // 50, 0.0))
            await later(LIMITS.tick)
        for _ in range(200):
            process.step()
            await later(LIMITS.tick)
        assert not process.killed and scripted.worker.state is State.READY

    scenario(main)


def test_a_server_that_slept_ends_nobody() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        for _ in range(5):
            process.say(Pulse("step", 1, 0.0))
            await later(10_000)  # a look every ten thousand seconds is one second of waiting
        assert not process.killed

    scenario(main)


# Back-pressure, deaths, and what the next process gets


def test_a_worker_that_reads_nothing_is_sent_nothing_more() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        process.unsent = fleet.UNSENT + 1
        for _ in range(100):
            with pytest.raises(Refusal) as caught:
                scripted.worker.open([request()], 1.0)
            assert (caught.value.status, caught.value.code) == (503, "overloaded")
            assert (caught.value.retry_after or 0) >= 1
        assert not any(isinstance(each, Submit) for each in process.sent) and timers() == []
        process.unsent = 0
        scripted.worker.open([request()], 1.0).close()

    scenario(main)


def test_the_next_process_gets_the_memory_that_was_set_and_the_exit_code_is_kept() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        assert process.sent[0].memory == 1000 and scripted.worker.exit_code is None
        scripted.worker.memory = 500
        process.die(-9)
        await later(0.1)
        again = scripted.process.sent[0]
        assert isinstance(again, Configure) and again.memory == 500
        assert scripted.worker.exit_code == -9
        scripted.process.die(-11)
        await settle()
        assert scripted.worker.exit_code == -11

    log = scenario(main)
    assert "ended by SIGKILL, as the system does where memory is short" in log
    assert "ended by SIGSEGV; restarting it in 0.5 s" in log


def test_deaths_for_memory_leave_less_and_the_third_is_the_end() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        process.die(-9)  # by an operator
        await later(0.1)
        for memory in (1000, 750, 562):
            assert scripted.process.sent[0].memory == memory
            scripted.process.ready()
            stream = scripted.worker.open([request(memory)], 1000.0)
            scripted.kills += 1
            scripted.process.die(-9)
            assert (await refused(stream)).code == "worker_died"
            stream.close()
            await later(5)
        await later(1000)
        assert len(scripted.processes) == 4 and scripted.worker.state is State.DOWN
        with pytest.raises(Refusal, match="killed 3 times because memory was short") as caught:
            await scripted.worker.available(1000)
        assert (caught.value.status, caught.value.retry_after) == (503, fleet.LATEST)

    log = scenario(main)
    assert log.count("was killed by the system because memory was short; restarting") == 2
    assert "the model m stays down: it was killed 3 times because memory was short" in log


def test_less_memory_that_does_not_fit_is_the_end_too() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        scripted.kills += 1
        process.die(-9)
        await later(0.1)
        waiting = asyncio.create_task(scripted.worker.available(1000))
        await settle()
        scripted.process.fail("it does not fit")
        with pytest.raises(Refusal, match="with less of it: it does not fit"):
            await waiting
        await later(1000)
        assert len(scripted.processes) == 2

    scenario(main)


def test_a_kill_of_others_and_our_own_are_no_want_of_memory() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        scripted.kills += 1
        process.die(-11)
        await later(0.1)
        scripted.process.ready()
        scripted.process.say(Pulse("", 1, 0.0))
        scripted.kills += 1
        await wait(LIMITS.silence + 2)
        assert scripted.processes[1].killed
        await later(5)
        assert scripted.process.sent[0].memory == 1000 and len(scripted.processes) == 3

    scenario(main)


def test_a_process_that_is_lost_twice_counts_once() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        first = await scripted.started()
        first.die()
        await later(0.1)
        scripted.process.ready()
        first.die()  # the old socket's end, heard late
        assert scripted.worker.state is State.READY and scripted.process is not first

    scenario(main)


def test_the_last_steps_report_and_progress_are_the_running_workers() -> None:
    async def main(scripted: ScriptedFleet) -> None:
        process = await scripted.started()
        worker = scripted.worker
        assert worker.report is None
        for rows in (9, 1):
            await later(1)
            before = worker.progress
            process.step(rows=rows)
            assert worker.report == StepReport(rows=rows) and worker.progress > before
        before = worker.progress
        await later(1)
        process.say(StepResult([], StepReport(waiting=2)), Pulse("step", 9, 0.0))
        assert worker.progress == before
        process.say(Pulse("", 10, 0.0))  # texts are being read
        assert worker.progress > before
        process.die()
        await later(0.1)
        scripted.process.ready()
        assert worker.report is None

    scenario(main)
