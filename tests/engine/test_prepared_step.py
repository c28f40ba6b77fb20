"""Prepared steps: the same bits as others, and no step that C alone could not run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from msgspec.structs import replace as changed

from bessemer.architectures.config import Recurrent
from bessemer.architectures.decoder import Decoder
from bessemer.architectures.step import Cache, StepContext
from bessemer.engine.batch import Batch, Output
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.engine import Engine
from bessemer.engine.kv_cache import allocate, arrays_of
from bessemer.engine.prepared_step import ONCE, PROGRAMS, PreparedStep
from bessemer.engine.request import Event, Request, Sampling
from bessemer.engine.runner import Runner
from bessemer.engine.scheduler import Limits
from bessemer.kernels.attention.pages import Format, Pages
from bessemer.kernels.cpu.library import compiled
from bessemer.kernels.linear.rows import add
from bessemer.kernels.recurrent.runs import States
from tests.architectures.parity import model

from .paper_model import answers, prompt, request_for, text
from .test_families import NAMES

pytestmark = pytest.mark.skipif(not compiled(), reason="no C compiler")

BY_MLX = {"gemma3n_sparse_lending", "gemma4_per_layer_lending"}  # some of what they do on the way
LENGTHS = (3, 40, 30)  # of prompts; the first's page is full soon, the second's table is wider


@dataclass
class Logits:
    """A runner, and copies of the logits that it gave."""

    runner: Runner
    out: list[np.ndarray]

    def __call__(self, batch: Batch) -> Output:
        out = self.runner(batch)
        self.out.append(np.array(out.logits))
        return out


def door_of(
    decoder: Decoder, prepared: bool, ahead: bool = False, format: Format = Format.FLOAT32
) -> tuple[Engine, Logits]:
    config = decoder.config
    states = 5 if any(isinstance(cache, Recurrent) for cache in config.caches) else 0
    sizes = CacheSizes(config.windows, (7,) * len(config.windows), states)
    runner = Runner(decoder, allocate(config, sizes, format), ahead=ahead, prepared=prepared)
    forward, limits = Logits(runner, []), Limits(140, batch=4, chunk=16)
    return Engine(forward, limits, sizes, [], text, config.ropes, ahead=ahead), forward


def steps_of(forward: Logits) -> PreparedStep:
    assert forward.runner._prepared is not None
    return forward.runner._prepared


def requests(count: int) -> Iterator[Request]:
    """Yield requests with all that a draw may want: alike in every run."""
    for number, length in enumerate(LENGTHS):
        more: dict[str, Any] = {"logprobs": 3} if number else {"stop": ["xyz"], "min_tokens": 2}
        sampling = Sampling(temperature=0.8 * number, seed=number, frequency_penalty=number / 4)
        yield request_for(
            number, prompt(number, length), count, ignore_eos=True, sampling=sampling, **more
        )


def traffic(door: Engine) -> list[Event]:
    """Serve requests that come and go, in pools too small for all; one is cancelled."""
    events: list[Event] = []
    for number, request in enumerate(requests(50)):
        door.submit(request)
        door.submit(replace_id(request, 10 + number))
        for _ in range(5):
            events += door.step()
    door.cancel(11)
    return events + list(door.run())


def replace_id(request: Request, number: int) -> Request:
    return changed(request, id=number, sampling=changed(request.sampling, seed=number))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    "name", ["llama_llama3", "deepseek_v2_lite_yarn", "qwen3_next_shared_keys"]
)
def test_the_same_bits_and_events_in_traffic(name: str, ahead: bool) -> None:
    decoder = model(name).decoder
    door, forward = door_of(decoder, True, ahead)
    plain, oracle = door_of(decoder, False, ahead)
    assert traffic(door) == traffic(plain)
    assert door.scheduler.preemptions
    pairs = zip(forward.out, oracle.out, strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
    shapes = {shape for shape in steps_of(forward)._known if shape not in steps_of(forward).refused}
    assert {shape.rows for shape in shapes} == {1, 2, 3, 4}


@pytest.mark.parametrize("format", list(Format))
def test_the_same_bits_in_every_format_of_the_cache(format: Format) -> None:
    decoder = model("qwen3_layer_types_tied").decoder
    outs = []
    for prepared in (True, False):
        door, forward = door_of(decoder, prepared, format=format)
        door.submit(request_for(1, prompt(1, 30), 9, ignore_eos=True))
        list(door.run())
        outs.append(np.concatenate(forward.out))
    assert np.array_equal(*outs)


@pytest.mark.parametrize("name", NAMES)
def test_which_families_are_prepared(name: str) -> None:
    door, forward = door_of(model(name).decoder, True)
    door.submit(request_for(1, prompt(1, 3), 5, ignore_eos=True))
    list(door.run())
    reasons = set(steps_of(forward).refused.values())
    assert reasons == ({"an argument was computed by MLX"} if name in BY_MLX else set())


Change = Callable[[mx.array, StepContext], mx.array]


@dataclass
class Changed:
    """A block of which something else is done with the result."""

    block: Any
    change: Change

    def __call__(self, x: mx.array, step: StepContext, cache: Cache) -> tuple[mx.array, Cache]:
        x, cache = self.block(x, step, cache)
        return self.change(x, step), cache


def number(array: Any) -> float:
    return float(np.asarray(array).reshape(-1)[0])


IN_BETWEEN = {
    "a constant": lambda x, step: x + 0.25,
    "a product with itself": lambda x, step: x * x,
    "of positions": lambda x, step: x + step.rows.positions[:, None],
    "a copy": lambda x, step: mx.array(np.asarray(x)),
}
BAKED = {
    "a position": lambda x, step: add(x, x, number(step.rows.positions)),
    "a table's page": lambda x, step: add(x, x, number(step.rows.layouts[0].tables)),
    "an angle": lambda x, step: add(x, x, number(step.tables[0].cos)),
    "a result": lambda x, step: add(x, x, number(x)),
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        *((change, "computed by MLX") for change in IN_BETWEEN.values()),
        *((change, "taken from an array") for change in BAKED.values()),
    ],
    ids=[*IN_BETWEEN, *BAKED],
)
def test_what_c_alone_cannot_do_is_not_prepared_and_right(change: Change, why: str) -> None:
    decoder = model("llama_llama3").decoder
    first, *others = decoder.blocks
    blocks: Any = (Changed(first, change), *others)
    decoder = replace(decoder, blocks=blocks)
    outs = []
    for prepared in (True, False):
        door, forward = door_of(decoder, prepared)
        door.submit(request_for(1, prompt(1, 30), 9, ignore_eos=True))
        outs.append((answers(door.run()), np.concatenate(forward.out)))
        if prepared:
            refused = steps_of(forward).refused
            assert len(refused) == len(steps_of(forward)._known) == 1
            assert all(why in reason for reason in refused.values())
    assert outs[0][0] == outs[1][0] and np.array_equal(outs[0][1], outs[1][1])


def test_a_cache_that_is_replaced_is_not_prepared() -> None:
    @dataclass
    class Copying(Changed):
        def __call__(self, x: mx.array, step: StepContext, cache: Cache) -> tuple[mx.array, Cache]:
            x, cache = self.block(x, step, cache)
            assert isinstance(cache, Pages)
            return x, replace(cache, keys=cache.keys + 0)

    decoder = model("llama_llama3").decoder
    first, *others = decoder.blocks
    blocks: Any = (Copying(first, lambda x, step: x), *others)
    door, forward = door_of(replace(decoder, blocks=blocks), True)
    door.submit(request_for(1, prompt(1, 3), 5, ignore_eos=True))
    list(door.run())
    assert set(steps_of(forward).refused.values()) == {"a cache was replaced"}


def test_states_that_moved_are_looked_for() -> None:
    """A copy of a state may put all states elsewhere."""
    door, forward = door_of(model("mamba2_groups").decoder, True)
    plain, oracle = door_of(model("mamba2_groups").decoder, False)
    for each in (door, plain):
        each.submit(request_for(1, prompt(1, 3), 24, ignore_eos=True))
    for count in range(24):
        assert door.step() == plain.step()
        if count == 12:
            steps, caches = steps_of(forward), forward.runner._take()
            assert any(not isinstance(known, str) for known in steps._known.values())
            moved = [States(tuple(a + 0 for a in each.arrays)) for each in caches if each]  # type: ignore[union-attr]
            mx.eval(arrays_of(moved))
            for array in arrays_of(caches):
                np.asarray(array)[...] = np.nan
            forward.runner._caches = [*moved]
    assert all(map(np.array_equal, forward.out, oracle.out))


def test_only_the_shapes_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.engine.prepared_step.PROGRAMS", 2)
    decoder = model("llama_llama3").decoder
    door, forward = door_of(decoder, True)
    plain, _ = door_of(decoder, False)
    assert traffic(door) == traffic(plain)
    assert len(steps_of(forward)._known) == 2 < PROGRAMS


def test_a_shape_that_comes_once_is_not_prepared() -> None:
    door, forward = door_of(model("llama_llama3").decoder, True)
    door.submit(request_for(1, prompt(1, 3), 2, ignore_eos=True))
    list(door.run())
    assert [*steps_of(forward).refused.values()] == [ONCE]


def test_logits_stay_until_the_step_after_the_next() -> None:
    """A step that runs ahead is launched before the one before is read."""
    decoder, kept = model("llama_llama3").decoder, list[mx.array]()
    door, forward = door_of(decoder, True)
    forward.runner, inner = kept_by(kept, forward.runner), forward.runner
    door.submit(request_for(1, prompt(1, 3), 9, ignore_eos=True))
    list(door.run())
    assert inner._prepared is not None and not inner._prepared.refused
    assert all(map(np.array_equal, kept[-2:], forward.out[-2:]))
    assert len({np.asarray(each).ctypes.data for each in kept[-4:]}) == 2


def kept_by(kept: Sequence[mx.array], runner: Any) -> Any:
    def run(batch: Batch) -> Output:
        out: Output = runner(batch)
        kept.append(out.logits)  # type: ignore[attr-defined]
        return out

    return run
