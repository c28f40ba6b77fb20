"""What MLX's graph tells of the launches to come; it is the same graph afterwards."""

from collections.abc import Sequence

import mlx.core as mx

from bessemer.kernels.simulator.pending import MARK, Pending, read


def launches(arrays: Sequence[mx.array]) -> list[Pending]:
    return read(arrays).launches


def test_nodes_that_compute_are_launches_and_views_are_none() -> None:
    x = mx.ones((4, 6))
    mx.eval(x)
    y = mx.exp(x[:2].reshape(3, 4).T)
    (launch,) = launches([y.flatten()])
    assert launch.name == "Exp" and launch.mark is None
    assert launch.inputs[0].shape == (4, 3) and launch.inputs[0].elements == 24
    assert launch.inputs[0].nbytes == 12 * 4 and launch.outputs[0].dtype == mx.float32


def test_what_is_evaluated_is_not_launched_again() -> None:
    x = mx.exp(mx.ones((4,)))
    mx.eval(x)
    assert read([x]).nodes == 0 and read([x[1:]]).nodes == 1 and launches([x[1:]]) == []
    mx.async_eval(y := x + 1)
    assert [each.name for each in launches([mx.sin(y)])] == ["Sin"]


def test_a_broadcast_array_is_read_once() -> None:
    (launch,) = launches([mx.ones((8, 1)) * 1 + mx.broadcast_to(mx.array([1.0, 2.0]), (8, 2))])[-1:]
    assert launch.name == "Add" and launch.inputs[1].nbytes == 2 * 4


def test_a_launch_waits_for_results_since_the_last_barrier() -> None:
    x = mx.ones((4,))
    mx.eval(x)
    a, b = mx.exp(x), mx.sin(x)
    waits = {each.name: each.waits for each in launches([(a + b) * mx.cos(x)])}
    assert (waits["Exp"], waits["Sin"], waits["Add"], waits["Multiply"]) == (
        False,
        False,
        True,
        True,
    )


def test_a_marked_node_is_a_launch_of_its_inputs() -> None:
    x, out, mark = mx.ones((4,)), mx.zeros((2, 3)), mx.array(7, MARK)
    mx.eval(x, out, mark)
    (y,) = mx.depends([out], [x, mark])
    (launch,) = launches([y])
    assert launch.mark == 7 and [each.shape for each in launch.inputs] == [(4,)]
    assert launch.outputs[0].shape == (2, 3)
    assert launches(mx.depends([out], [x])) == []  # nobody's stand-in


def test_the_graph_stays_as_it_was() -> None:
    keys = mx.zeros((4, 2))
    y = mx.ones((1, 2))
    mx.eval(keys, y)
    for _ in range(3):
        keys[0:1] = y
        y = keys[:1] * 2
        assert [each.name for each in launches([y])] == ["SliceUpdate", "Multiply"]
        mx.async_eval(y)
    assert read([keys]).nodes == 0 and y.tolist() == [[8, 8]]
