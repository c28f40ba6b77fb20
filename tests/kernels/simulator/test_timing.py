"""MLX against a modelled GPU: a scripted host, whose every second is known.

The GPU reads 64 bytes a second, and a launch here reads and writes 64 bytes: it takes a second.
"""

from collections.abc import Callable, Iterator

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.simulator.clock import Speed
from bessemer.kernels.simulator.timing import TimedRun, flat, timed

SPEED = Speed(64.0, 1e9, 1, core=64.0, gap=0.0, boundary=0.0, launches=50)
ELEMENTS = 8  # float32 in, float32 out: 64 bytes


class Host:
    """A run whose host computes as long as the script says."""

    def __init__(self) -> None:
        self.time = 0.0
        self.run = TimedRun(SPEED, 1.0, lambda: self.time)

    def works(self, seconds: float) -> None:
        self.time += seconds

    @property
    def now(self) -> float:
        return self.run.clock.now()

    @property
    def busy(self) -> float:
        return self.run.gpu.totals.busy / self.now


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    with timed(host.run):
        yield host


def token() -> mx.array:
    return mx.array([0.0] * ELEMENTS)


def test_eval_waits(host: Host) -> None:
    host.works(2)
    mx.eval(mx.sin(mx.exp(token())))
    assert host.now == 4 and host.run.counts == {"Sin": 1, "Exp": 1}


def test_a_loop_that_waits_leaves_the_gpu_idle(host: Host) -> None:
    x = token()
    for _ in range(5):
        host.works(3)
        x = mx.exp(x)
        mx.eval(x)
    assert host.now == 20 and host.busy == 0.25


def test_async_eval_does_not_wait(host: Host) -> None:
    mx.async_eval(mx.exp(token()), mx.sin(token()))
    host.works(1)
    assert host.now == 1 and host.run.gpu.free == 2


@pytest.mark.parametrize(
    ("work", "seconds", "busy"), [(0.5, 10.5, 10 / 10.5), (3.0, 31.0, 10 / 31)]
)
def test_a_pipelined_loop_takes_as_long_as_the_slower(
    host: Host, work: float, seconds: float, busy: float
) -> None:
    """Step t+1 is submitted before step t is read, as mlx_lm does it."""
    last: mx.array | None = None
    x = token()
    for _ in range(10):
        host.works(work)
        x = mx.exp(x)
        mx.async_eval(x)
        if last is not None:
            last.tolist()
        last = x
    x.tolist()
    assert host.now == pytest.approx(seconds) and host.busy == pytest.approx(busy)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.tolist(),
        lambda x: np.array(x),
        lambda x: np.asarray(x),
        lambda x: mx.eval(x),
        lambda x: mx.eval({"a": [x]}),
        lambda x: mx.array.tolist(x),
    ],
)
def test_reading_waits_for_the_array_and_not_for_what_came_later(
    host: Host, read: Callable[[mx.array], object]
) -> None:
    first = mx.exp(token())
    mx.async_eval(first)
    mx.async_eval(mx.sin(mx.cos(first)))
    read(first)
    assert host.now == 1 and host.run.gpu.free == 3
    read(first)
    assert host.now == 1


def test_reading_what_is_not_evaluated_waits_for_all_before_it(host: Host) -> None:
    first = mx.exp(token())
    mx.async_eval(first)
    mx.async_eval(mx.sin(first))
    assert first[:1].item() == 1 and host.now == 2  # a view, in the queue behind both
    assert bool(mx.array(True)) and int(mx.array(3)) == 3 and host.now == 2


def test_a_number_of_the_hosts_own_is_there(host: Host) -> None:
    mx.async_eval(mx.exp(token()))
    assert mx.array([1, 2]).tolist() == [1, 2] and host.now == 0


def test_a_contiguous_array_is_no_launch(host: Host) -> None:
    mx.eval(mx.contiguous(token().reshape(4, 2)) + 1)
    assert host.run.counts == {"Add": 1}


def test_synchronize_waits_for_everything(host: Host) -> None:
    mx.async_eval(mx.exp(token()))
    mx.async_eval(mx.sin(token()))
    mx.synchronize()
    assert host.now == 2


def test_in_a_pause_things_are_really_computed_and_cost_nothing(host: Host) -> None:
    with host.run.clock.paused():
        x = mx.exp(token())
        mx.eval(x)
        assert x.tolist() == [1.0] * ELEMENTS
        host.works(7)
    assert host.now == 0 and not host.run.counts


def test_afterwards_nothing_is_replaced() -> None:
    places = [(mx, "eval"), (mx, "compile"), (mx.fast, "metal_kernel"), (mx.array, "item")]
    places += [(mx, "quantized_matmul"), (mx.array, "__matmul__"), (np, "array"), (mx, "eval")]
    before = [getattr(*place) for place in places]
    with pytest.raises(ZeroDivisionError), timed(TimedRun(SPEED)):
        assert mx.default_device().type == mx.DeviceType.gpu
        raise ZeroDivisionError
    assert [getattr(*place) for place in places] == before
    assert mx.default_device().type == mx.DeviceType.cpu


def test_trees_of_arrays_are_taken_as_mlx_takes_them() -> None:
    a, b, c = (mx.array(n) for n in range(3))
    assert list(flat([a, (b, {"x": c, "y": None}), 3])) == [a, b, c]
