"""Where the host's time goes, and a loop's figures, of scripts that are known."""

from collections.abc import Callable
from types import FrameType
from typing import Any

import mlx.core as mx
import pytest

from bessemer.bench.host.measure import MLX, Stacks, measure, names
from bessemer.kernels.simulator.clock import Speed
from bessemer.kernels.simulator.timing import TimedRun, timed

SPEED = Speed(64.0, 1e9, 1, core=64.0, gap=0.0, boundary=0.0)


class Host:
    def __init__(self) -> None:
        self.time = 0.0
        self.run = TimedRun(SPEED, 2.0, lambda: self.time)


def here() -> FrameType:
    import inspect

    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back


def inner(look: Callable[[], Any]) -> Any:
    return look()


def test_a_stack_is_named_from_the_outside_by_file_and_function() -> None:
    stack = inner(lambda: names(here()))
    own = "host/test_measure test_a_stack_is_named_from_the_outside_by_file_and_function"
    assert stack[-3:] == (own, "host/test_measure inner", f"{own}.<locals>.<lambda>")


def test_whatever_the_simulator_does_is_mlxs() -> None:
    stacks: list[tuple[str, ...]] = []
    host = Host()

    def cpu() -> float:
        stacks.append(names(here()))
        return 0.0

    run = TimedRun(SPEED, 1.0, cpu)
    del stacks[:]
    with timed(run):
        mx.eval(mx.exp(mx.ones((2,))))
    assert host.run and {stack[-1] for stack in stacks} == {MLX}
    assert all(stack[-2].endswith("test_whatever_the_simulator_does_is_mlxs") for stack in stacks)


def test_a_sample_gets_what_was_computed_since_the_last_but_for_pauses() -> None:
    host = Host()
    stacks = Stacks(host.run.clock)
    host.time += 1
    stacks.note(here())
    with host.run.clock.paused():
        host.time += 10
        stacks.note(here())  # the model's own work
    host.time += 2
    stacks.note(here())
    ((stack, seconds),) = stacks.seconds.items()
    assert seconds == 3 and "pauses" in stack[-1]


def test_a_loop_that_waits_is_measured_to_the_millisecond() -> None:
    """A step computes 0.5 seconds at scale 2, then waits for a launch of one; prompts take 5."""
    host = Host()
    read: list[int] = []

    def step() -> int:
        host.time += 0.5
        mx.eval(mx.exp(mx.array([0.0] * 8)))
        return 3

    def begin(number: int) -> Callable[[], int]:
        read.append(number)
        host.time += 2.5
        return step

    with timed(host.run):
        figure = measure(host.run, "a loop", 3, 7, begin, steps=4, rounds=3)
    assert read == [0, 1] and figure.prompt == pytest.approx(5000)
    assert figure.step == pytest.approx(2000) and figure.busy == pytest.approx(0.5)
    assert figure.host == pytest.approx(1000) and figure.gpu == pytest.approx(1000)
    assert figure.tokens_per_second == pytest.approx(1.5)
    assert (figure.launches, figure.buffers, figure.megabytes) == (1, 1, 64e-6)
    assert figure.kernels == [("Exp", 1, 1e6)]
    assert (figure.who, figure.streams, figure.context) == ("a loop", 3, 7)
