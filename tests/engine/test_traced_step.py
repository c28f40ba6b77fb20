"""Steps that are traced: the same bits as others, and no kernel that wants numbers."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from types import FunctionType, SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import Paged, Recurrent
from bessemer.bench.host.gpu import modelled_gpu
from bessemer.bench.models.hardware import chips
from bessemer.engine.batch import build
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.engine import Engine
from bessemer.engine.kv_cache import allocate, arrays_of
from bessemer.engine.model import Model
from bessemer.engine.request import Request
from bessemer.engine.runner import Runner
from bessemer.engine.scheduler import Limits, Work
from bessemer.engine.sequence import Holdings
from bessemer.engine.sequence import Sequence as Sequence_
from bessemer.engine.settings import Pattern
from bessemer.engine.traced_step import TRACES, FlatCaches, TracedStep
from bessemer.kernels.attention.pages import TAIL_PAGES, Append, Format, Pages, Tail, zeros
from bessemer.kernels.cpu.library import address
from bessemer.kernels.registry import bucket
from tests.architectures.parity import loaded
from tests.kernels.tiers import use

from .paper_model import answers, prompt, request_for, text
from .test_families import NAMES

LENGTHS = (3, 40, 30)  # of prompts; the first's page is full soon, the second's table is wider


def door_of(model: Model, traced: bool, pattern: Pattern) -> tuple[Engine, Runner]:
    config = model.config
    states = 5 if any(isinstance(cache, Recurrent) for cache in config.caches) else 0
    sizes = CacheSizes(config.windows, (16,) * len(config.windows), states)
    caches = allocate(config, sizes, Format.FLOAT32, pattern)
    runner = Runner(model.decoder, caches, tailed=pattern == "tail", traced=traced, ahead=True)
    limits = Limits(140, batch=4, chunk=16)
    return Engine(runner, limits, sizes, [], text, config.ropes, ahead=True), runner


def requests(count: int) -> Sequence[Request]:
    """Return requests of which each scores its tokens, so that bits are compared."""
    return [
        request_for(number, prompt(number, length), count, ignore_eos=True, logprobs=3)
        for number, length in enumerate(LENGTHS)
    ]


def served(model: Model, traced: bool) -> tuple[list[object], TracedStep | None]:
    door, runner = door_of(model, traced, "functional")
    events: list[object] = []
    for request in requests(36):
        door.submit(request)
        for _ in range(5):
            events += door.step()
    return events + list(door.run()), runner._traced


@pytest.mark.parametrize(
    "name", ["llama_llama3", "gpt_oss_yarn", "qwen3_next_shared_keys", "gemma4_per_layer_lending"]
)
def test_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On MLX's operations, for what is traced in C would have been computed at once."""
    use(monkeypatch, None)
    events, traced = served(loaded(name), traced=True)
    assert events == served(loaded(name), traced=False)[0]
    assert traced is not None
    shapes = {shape for shape, trace in traced._traces.items() if trace is not None}
    assert {shape.rows for shape in shapes} == {1, 2, 3}
    assert all(len(shape.starts) == len(shape.widths) for shape in traced._traces)


@pytest.mark.parametrize("name", ["phi3_longrope_partial_tied", "llama_dynamic"])
def test_a_trace_serves_sequences_of_any_length(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their ropes vary: in the steps of one shape a token is turned as its own sequence's are."""
    use(monkeypatch, None)
    outs = []
    for traced in (True, False):
        door, runner = door_of(loaded(name), traced, "functional")
        out: list[object] = []
        for number, count in enumerate((8, 120, 70)):
            door.submit(request_for(number, prompt(7, 3), count, ignore_eos=True, logprobs=2))
            out += [event for _ in range(7) for event in door.step()]
            door.cancel(number)
            door.step()
        outs.append(out)
        assert runner._traced is None or any(runner._traced._traces.values())
    assert outs[0] == outs[1]


@pytest.mark.parametrize("name", ["llama_llama3", "qwen3_next_shared_keys"])
def test_pools_and_states_stay_where_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX writes in place what nobody else refers to; a copy of a pool a step would be dear."""
    use(monkeypatch, None)
    door, runner = door_of(loaded(name), True, "functional")
    door.submit(request_for(1, prompt(1, 3), 12, ignore_eos=True))
    places = set()
    while door.busy:
        door.step()
        caches = runner._caches
        arrays = caches.arrays if isinstance(caches, FlatCaches) else arrays_of(caches)
        places.add(tuple(map(address, arrays)))
        del caches, arrays
    assert len(places) == 1


def test_what_a_step_leaves_alone_stays_in_its_place() -> None:
    """Two layers, each with a pool that is kept and tails that are made anew."""

    class Keeper:
        config = SimpleNamespace(windows=(None,), caches=(Paged(1, 2, 2, None),) * 2)

        def __call__(
            self, tokens: mx.array, step: Any, caches: Sequence[Any], rows: mx.array
        ) -> tuple[mx.array, list[Any]]:
            sums = [cache.keys[0].sum() + step.layouts[0].tails.sum() for cache in caches]
            tails = [zeros(TAIL_PAGES, 1, 2, 2, Format.FLOAT32) for _ in caches]
            filled = [
                replace(tail, keys=tail.keys + each) for tail, each in zip(tails, sums, strict=True)
            ]
            return tokens.astype(mx.float32), [
                cache.after(tail=Tail(tail, step.layouts[0].tails))
                for cache, tail in zip(caches, filled, strict=True)
            ]

    pools = [zeros(3, 1, 2, 2, Format.FLOAT32, Append.TAIL) for _ in range(2)]
    pools = [
        replace(pool, keys=pool.keys + number, values=pool.keys.swapaxes(2, 3) - number)
        for number, pool in enumerate(pools, 1)
    ]
    keeper: Any = Keeper()
    runner = Runner(keeper, pools, tailed=True, traced=True)
    for position in range(5):
        sequence = Sequence_.of(request_for(1, prompt(1, position + 1), 9))
        sequence.computed, sequence.pages = position, Holdings([[1]])
        runner(build([Work(sequence, 1)]))
    assert runner._traced is not None and any(runner._traced._traces.values())
    for number, cache in enumerate(runner._take(), 1):
        assert isinstance(cache, Pages) and cache.tail is not None
        assert cache.values is not None
        assert (np.array(cache.keys) == number).all() and (np.array(cache.values) == -number).all()
        assert (np.array(cache.tail.pages.keys) == number * 2 * 32).all()


def test_a_state_begins_anew_in_a_slot_that_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of one token is a row like those that go on, but for its state."""
    use(monkeypatch, None)
    outs = []
    for traced in (False, True):
        door, _ = door_of(loaded("mamba2_groups"), traced, "functional")
        out: list[object] = []
        for number in range(9):
            door.submit(request_for(number, [7 + number], 5, ignore_eos=True, logprobs=2))
            out += door.run()
        outs.append(out)
    assert outs[0] == outs[1]


@pytest.mark.parametrize("name", NAMES)
def test_no_kernel_of_a_decoding_step_asks_for_numbers(name: str) -> None:
    """MLX refuses to evaluate what it traces, so a kernel's code that did would raise."""
    with modelled_gpu(chips()["m4-max"]) as run:
        with run.clock.paused():
            door, runner = door_of(loaded(name), True, "tail")
        door.submit(request_for(1, prompt(1, 3), 6, ignore_eos=True))
        assert len(answers(door.run())[1]) == 6
    assert runner._traced is not None
    assert any(runner._traced._traces.values())


def test_only_the_shapes_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None)
    monkeypatch.setattr("bessemer.engine.traced_step.TRACES", 2)
    events, traced = served(loaded("llama_llama3"), traced=True)
    assert traced is not None and len(traced._traces) == 2 < TRACES
    assert events == served(loaded("llama_llama3"), traced=False)[0]


def test_a_trace_is_freed_when_it_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds arrays that MLX does not count, and a worker collects cycles seldom."""
    use(monkeypatch, None)
    events, traced = served(loaded("llama_llama3"), traced=True)
    assert events and traced is not None

    def known() -> int:
        """Count what was traced, which MLX's graph of it lives as long as."""
        functions = (each for each in gc.get_objects() if isinstance(each, FunctionType))
        return sum(each.__qualname__ == "TracedStep._trace.<locals>.run" for each in functions)

    gc.disable()
    try:
        before = known()
        dropped = sum(trace is not None for trace in traced._traces.values())
        traced._traces.clear()
        assert dropped and known() <= before - dropped
    finally:
        gc.enable()


def test_a_table_is_as_wide_as_a_few_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each page of the longest sequence would be another shape."""
    assert [bucket(pages) for pages in (1, 2, 3, 4, 5, 8, 9, 31, 33)] == [
        1, 2, 4, 4, 8, 8, 16, 32, 64,
    ]  # fmt: skip
    widths = np.array([bucket(pages) for pages in range(1, 4097)])
    assert (widths >= np.arange(1, 4097)).all() and len({*widths.tolist()}) <= 13
