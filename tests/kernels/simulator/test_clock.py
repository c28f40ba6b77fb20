"""The two clocks, with round numbers: when the host waits, and when the GPU does."""

from dataclasses import replace

import pytest

from bessemer.kernels.simulator.clock import GpuQueue, HostClock, Launch, Speed

# 100 bytes and 1,000 operations a second; 10 cores of 50 bytes a second.
SLOW = Speed(100.0, 1000.0, 10, core=50.0, gap=0.0, boundary=0.0, launches=50, elements=1000)


class Cpu:
    """A processor whose time is set by hand."""

    def __init__(self) -> None:
        self.time = 5.0

    def __call__(self) -> float:
        return self.time


def read(moved: int, waits: bool = True, threadgroups: int = 100) -> Launch:
    return Launch("read", moved, 0.0, threadgroups, waits)


def test_the_host_computes_at_its_scale_and_jumps_where_it_waits() -> None:
    cpu = Cpu()
    clock = HostClock(2.0, cpu)
    cpu.time += 3
    assert clock.now() == 6 and clock.computed() == 3
    assert clock.wait(10) == 4 and clock.now() == 10
    assert clock.wait(7) == 0 and clock.now() == 10
    clock.charge(-0.5)
    assert clock.now() == 9


def test_pauses_are_left_out_also_within_one_another() -> None:
    cpu = Cpu()
    clock = HostClock(1.0, cpu)
    with clock.paused():
        cpu.time += 1
        with clock.paused():
            cpu.time += 2
        cpu.time += 4
    cpu.time += 8
    assert clock.now() == 8


def test_a_pause_costs_the_real_clock_next_to_nothing() -> None:
    clock = HostClock()
    before = clock.now()
    for _ in range(1000):
        with clock.paused():
            sum(range(1000))
    assert clock.now() - before < 1000 * 10e-6  # the sums take twice that


@pytest.mark.parametrize(
    ("launch", "seconds"),
    [
        (Launch("memory", 200, 500.0), 2.0),
        (Launch("arithmetic", 50, 3000.0), 3.0),
        (Launch("one core's memory", 200, 0.0, 1), 4.0),
        (Launch("one core's arithmetic", 0, 100.0, 1), 1.0),
        (Launch("two cores", 200, 0.0, 2), 2.0),
    ],
)
def test_a_launch_takes_its_roofline(launch: Launch, seconds: float) -> None:
    assert SLOW.seconds(launch) == seconds


def test_launches_that_do_not_wait_share_the_gpu_and_one_gap() -> None:
    gpu = GpuQueue(replace(SLOW, gap=1.0))
    assert gpu.seconds([read(100), read(100), read(100)]) == 3 + 3
    assert gpu.seconds([read(100), read(100, waits=False), read(100)]) == 2 + 3
    small = read(50, False, 1)  # half of the memory's speed, so as long beside the other as alone
    assert gpu.seconds([read(50), small]) == 1 + 1


def test_the_gpu_begins_when_it_is_given_something_and_counts_what_it_does() -> None:
    gpu = GpuQueue(SLOW)
    gpu.submit([read(100)], 0.0, 2.0)
    assert gpu.free == 3
    gpu.submit([read(200), read(100)], 2.0, 2.5)  # behind the first
    assert gpu.free == 6
    gpu.submit([read(100)], 10.0, 10.0)
    assert gpu.free == 11
    assert (gpu.totals.busy, gpu.totals.launches, gpu.totals.buffers) == (5, 4, 3)
    assert gpu.totals.moved == 500


def test_a_full_command_buffer_is_committed_while_the_host_goes_on() -> None:
    gpu = GpuQueue(replace(SLOW, launches=1))  # so two launches fill one
    gpu.submit([read(100)] * 4, 0.0, 8.0)  # committed at 4 and 8, each of 2 seconds
    assert gpu.free == 10 and gpu.totals.buffers == 2 and gpu.totals.busy == 4


def test_a_command_buffer_is_full_of_the_elements_that_it_has_not_seen() -> None:
    gpu = GpuQueue(SLOW)
    new = [Launch("read", 0, binds=((name, 600), ("all", 10))) for name in "abcd"]
    gpu.submit(new, 0.0, 1.0)
    assert gpu.totals.buffers == 2
    gpu.submit([new[0]] * 4, 1.0, 2.0)
    assert gpu.totals.buffers == 3


def test_one_command_buffer_after_another_takes_its_time_but_not_after_idling() -> None:
    gpu = GpuQueue(replace(SLOW, boundary=0.5))
    gpu.submit([read(100)], 0.0, 0.0)
    gpu.submit([read(100)], 0.0, 0.5)
    assert gpu.free == 2.5
    gpu.submit([read(100)], 3.0, 3.0)
    assert gpu.free == 4


def test_a_full_queue_holds_the_host_up() -> None:
    gpu = GpuQueue(replace(SLOW, queue=2))
    held = [gpu.submit([read(100)], 0.0, 0.0) for _ in range(3)]
    assert held == [0, 0, 1]  # until the first is done
    assert gpu.submit([read(100)], 1.0, 1.0) == 1  # until the second is
    assert gpu.totals.stalled == 2
