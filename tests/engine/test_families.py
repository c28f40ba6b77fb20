"""Tiny models with every kind of cache in the real engine: the logits of each alone, to the bit."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pytest

from bessemer.architectures.config import Recurrent
from bessemer.engine.batch import Batch, Output
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.engine import Engine
from bessemer.engine.kv_cache import allocate
from bessemer.engine.model import Model
from bessemer.engine.request import Event, Request, Started
from bessemer.engine.runner import Runner
from bessemer.engine.scheduler import Limits
from bessemer.engine.settings import Pattern
from bessemer.kernels.attention.pages import Format
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from tests.architectures.parity import loaded, model
from tests.architectures.steps import prefill
from tests.architectures.tiny import VOCABULARY, Floats
from tests.kernels.tiers import in_turns, use

from .golden_vectors import FAMILIES
from .paper_model import answers, request_for, rows_of, text

CONTEXT = 140  # llama_dynamic's is 144
NAMES = [*FAMILIES, "phi3_su_window"]


Pair = tuple[Floats, Floats]


class Served(NamedTuple):
    events: list[Event]
    logits: Mapping[tuple[int, int], Floats]


class Recorded:
    """A runner, and the logits that it gave."""

    def __init__(self, model: Model, cache_sizes: CacheSizes, pattern: Pattern) -> None:
        caches = allocate(model.config, cache_sizes, Format.FLOAT32, pattern)
        self.runner = Runner(
            model.decoder, caches, tailed=pattern == "tail", prepared=pattern == "functional"
        )
        self.logits: dict[tuple[int, int], Floats] = {}  # by request and position

    def __call__(self, batch: Batch) -> Output:
        output = self.runner(batch)
        owners = np.repeat(np.array(batch.sequences), rows_of(batch))
        rows = np.array(batch.rows)
        for row, out in zip(rows, np.array(output.logits), strict=True):
            self.logits[int(owners[row]), int(batch.positions[row])] = out
        return output


def sample_requests(count: int = 7, longest: int = 70) -> Iterator[Request]:
    """Yield requests whose prompts begin alike, with answers of so many tokens at most."""
    random = np.random.RandomState(5)
    beginning = random.randint(0, VOCABULARY, 70).tolist()
    sizes = [(70, 9, 50), (70, 20, 40), (33, 30, 60), (64, 0, 70), (70, 9, 3), (70, 40, 5)]
    for number, (shared, unshared, max_tokens) in enumerate([*sizes, (5, 90, 20)][:count]):
        ending = np.random.RandomState(unshared).randint(0, VOCABULARY, unshared).tolist()
        yield request_for(
            number, beginning[:shared] + ending, min(max_tokens, longest), ignore_eos=True
        )


def served(
    out: Model, pattern: Pattern, chunk: int, requests: list[Request], ahead: bool = False
) -> Served:
    """Serve a request every 12 steps, in pools that are too small."""
    config = out.config
    states = 5 if any(isinstance(cache, Recurrent) for cache in config.caches) else 0
    pages = tuple(9 if window is None else 7 for window in config.windows)
    cache_sizes = CacheSizes(config.windows, pages, states)
    forward = Recorded(out, cache_sizes, pattern)
    limits = Limits(CONTEXT, batch=4, chunk=chunk)
    door = Engine(forward, limits, cache_sizes, [], text, config.ropes, ahead=ahead)
    events: list[Event] = []
    for request in requests:
        door.submit(request)
        for _ in range(12):
            events += door.step()
    events += door.run()
    return Served(events, forward.logits)


def compared(out: Served, reference: Model, requests: list[Request]) -> Iterator[Pair]:
    """Each request's logits where a token was drawn, and what they are alone."""
    generated = answers(out.events)
    for request in requests:
        count = min(request.max_tokens, CONTEXT - len(request.tokens))
        assert len(generated[request.id]) == count
        tokens = [*request.tokens, *generated[request.id]]
        oracle = prefill(reference, tokens)
        for position in range(len(request.tokens) - 1, len(tokens) - 1):
            logits = out.logits[request.id, position]
            assert tokens[position + 1] == logits.argmax()
            yield logits, oracle[position]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("chunk", "ahead"), [(19, False), (64, True)])
def test_each_request_has_the_logits_it_has_alone(name: str, chunk: int, ahead: bool) -> None:
    requests = list(sample_requests())
    out = served(model(name), "functional", chunk, requests, ahead)
    assert all((one == other).all() for one, other in compared(out, model(name), requests))
    shared = any(event.cached for event in out.events if isinstance(event, Started))
    assert shared == (name != "llama_dynamic")  # where requests of no two reaches are turned alike


@pytest.mark.parametrize(("tier", "name"), in_turns(NAMES))
def test_on_lower_tiers_too(tier: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tier)
    requests, of_tier = list(sample_requests()), loaded(name)
    out = served(of_tier, "functional", 19, requests)
    assert all((one == other).all() for one, other in compared(out, of_tier, requests))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("qwen3_layer_types_tied", "tail"),
        ("qwen3_layer_types_tied", "in-place"),
        ("qwen3_layer_types_tied", "functional"),
        ("qwen3_next_shared_keys", "tail"),
    ],
)
def test_by_metal_kernels_they_are_as_good_as_equal(name: str, pattern: Pattern) -> None:
    requests = list(sample_requests(3, 36))  # tails are full after 32 steps
    with using(Simulator(SimulatorOptions(mode="fast"))):
        out = served(loaded(name), pattern, 64, requests, ahead=True)
    for one, other in compared(out, model(name), requests):
        assert np.abs(one - other).max() <= 1e-3
