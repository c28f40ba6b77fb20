"""Where a program's results lie."""

import random

import mlx.core as mx
import pytest

from bessemer.kernels.cpu.library import address, library
from bessemer.kernels.cpu.program import LINE, Arena, Program, arranged
from bessemer.kernels.cpu.recorder import (
    Block,
    Call,
    Memory,
    Place,
    Recorder,
    Recording,
    recorded_by,
)
from bessemer.kernels.linear.rows import add, scaled


def chain(chance: random.Random, count: int) -> Recording:
    """Calls that each write a result, some in a struct, and read some of those before."""
    sizes = [chance.choice([4, 60, 64, 500, 4000]) for _ in range(count)]
    calls = []
    for result in range(count):
        read = chance.sample(range(result), min(result, chance.randrange(3)))
        words = [Place(each, chance.randrange(sizes[each])) for each in (*read, result)]
        inside = Block(bytes(8 * len(words)), tuple((8 * i, w) for i, w in enumerate(words)))
        calls.append(Call("op", 1, chance.choice([(*words, 7), (inside, 7)])))
    return Recording(tuple(calls), tuple(sizes))


@pytest.mark.parametrize("seed", range(20))
def test_results_that_are_needed_together_lie_apart(seed: int) -> None:
    recording = chain(random.Random(seed), 40)
    out = 39
    starts, size = arranged(recording, out)
    used: dict[int, list[int]] = {}
    for index, call in enumerate(recording.calls):
        word = call.words[0]
        words = [w for _, w in word.pointers] if isinstance(word, Block) else call.words
        for each in words:
            if isinstance(each, Place):
                used.setdefault(each.result, []).append(index)
    assert starts.keys() == used.keys() - {out}
    for one in starts:
        assert starts[one] % LINE == 0 and starts[one] + recording.sizes[one] <= size
        for other in starts:
            together = used[one][0] <= used[other][-1] and used[other][0] <= used[one][-1]
            apart = (
                starts[one] + recording.sizes[one] <= starts[other]
                or starts[other] + recording.sizes[other] <= starts[one]
            )
            assert apart or not together or one == other


def test_layers_share_what_they_work_in() -> None:
    """A chain needs two results at a time, however long it is."""
    calls = [Call("op", 1, (Place(i, 0), Place(i + 1, 0))) for i in range(100)]
    _, size = arranged(Recording(tuple(calls), (1000,) * 101), 100)
    assert size == 2 * 1024


def test_an_arena_is_one_for_all_that_fit() -> None:
    arena = Arena()
    one = arena.of(1000)
    assert one.size == 1024 and arena.of(7) is one and arena.of(1024) is one
    assert arena.of(1025).size == 2048 and one.size == 1024


@pytest.mark.skipif(library() is None, reason="no C compiler")
def test_each_run_says_where_its_result_goes() -> None:
    x = mx.array([1.0, 2.0])
    recorder = Recorder((Memory([x]),), fill=0)
    with recorded_by(recorder):
        scaled(add(x, x), 3.0)
    program = Program(recorder.recording, 1, Arena())
    outs = [mx.zeros((2,)), mx.zeros((2,))]
    mx.eval(outs)
    for number, out in enumerate(outs):
        memoryview(x).cast("B").cast("f")[0] = number
        program(address(out))
    assert [out.tolist() for out in outs] == [[0, 12], [6, 12]]
