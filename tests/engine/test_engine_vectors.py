"""Texts that are embedded beside answers: vectors are transformers', answers stay as they are."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.batch import Batch, Output
from bessemer.engine.request import Refusal, Refused, Request
from bessemer.kernels.attention.pages import PAGE
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from tests.architectures.parity import loaded, model
from tests.architectures.tiny import prompts

from .golden_vectors import FAMILIES, GOLDEN
from .paper_model import answers, clear, engine, greedy, prompt, request_for, vector, vectors
from .test_families import Served, sample_requests, served

TEXT = 100  # the number of the first text
TOLERANCE = 1e-5


def texts(count: int = 8) -> list[Request]:
    """Return the golden prompts as texts."""
    return [request_for(TEXT + n, ids, 0, embeds=True) for n, ids in enumerate(prompts()[:count])]


def between(streams: Sequence[Request], others: Sequence[Request]) -> list[Request]:
    """Return requests in an order in which most texts come while answers are written."""
    each = -(-len(others) // len(streams))
    return [r for n, s in enumerate(streams) for r in (s, *others[n * each : (n + 1) * each])]


def error(name: str, out: Served) -> float:
    golden, own = np.load(GOLDEN)[name], vectors(out.events)
    return max(float(np.abs(own[n] - golden[n - TEXT]).max()) for n in own)


# Every family as on a CPU, and some of each kind of cache as on a GPU.
RUNS = [(name, 19, False) for name in FAMILIES] + [
    ("llama_llama3", 64, True),
    ("mistral_ministral_all_slide", 64, True),
    ("deepseek_v2_lite_yarn", 64, True),
    ("qwen3_next_shared_keys", 64, True),
]


@pytest.mark.parametrize(("name", "chunk", "ahead"), RUNS)
def test_vectors_are_those_of_transformers_and_change_no_answer(
    name: str, chunk: int, ahead: bool
) -> None:
    """seed_details H5.9 and M6: the mean of the last hidden states, of length 1."""
    streams = list(sample_requests(3, 12))
    alone = served(model(name), "functional", chunk, streams, ahead)
    beside = served(model(name), "functional", chunk, between(streams, texts()), ahead)
    assert len(vectors(beside.events)) == 8 and error(name, beside) < TOLERANCE
    assert answers(beside.events) == answers(alone.events)
    assert all((beside.logits[place] == row).all() for place, row in alone.logits.items())


@pytest.mark.parametrize("name", ["llama_dynamic", "qwen3_next_shared_keys", "gpt_oss_yarn"])
def test_a_vector_is_the_same_to_the_bit_however_its_text_is_cut(name: str) -> None:
    parts, whole = (
        vectors(served(model(name), "functional", chunk, texts(3)).events) for chunk in (11, 400)
    )
    assert all((parts[number] == whole[number]).all() for number in whole) and len(whole) == 3


def test_by_metal_kernels_they_are_as_good_as_equal(name: str = "qwen3_next_shared_keys") -> None:
    """One text has a single token, which goes with those of the answers, whose tails end there."""
    streams = [request_for(n, prompt(n, 5), 4, ignore_eos=True) for n in range(2)]
    chosen = [texts()[-1], texts()[-2]]
    with using(Simulator(SimulatorOptions(mode="fast"))):
        out = served(loaded(name), "tail", 64, between(streams, chosen), ahead=True)
    assert len(vectors(out.events)) == 2 and error(name, out) < 1e-3
    alone = served(model(name), "functional", 64, streams)
    assert answers(out.events) == answers(alone.events)


def test_texts_leave_the_prefix_cache_alone() -> None:
    door, model = engine(pages=40, chunk=64)
    long = prompt(1, 4 * PAGE)
    door.submit(request_for(1, long, 2))
    list(door.run())
    idle, computed = door.pager.tree.idle(0), model.computed
    door.submit(request_for(2, long, 0, embeds=True))
    door.submit(request_for(3, prompt(2, 9 * PAGE), 0, embeds=True))
    events = list(door.run())
    assert model.computed - computed == 13 * PAGE and door.pager.tree.idle(0) == idle
    assert np.abs(vectors(events)[2] - vector(long)).max() < 1e-6
    door.submit(request_for(4, long, 2))
    assert answers(door.run()) == {4: greedy(long, 2)}
    assert model.computed - computed == 13 * PAGE + PAGE + 1  # all but its last page was found


@pytest.mark.parametrize(("pages", "ahead"), [(9, False), (9, True), (3, True)])
def test_a_text_that_is_given_up_says_nothing_and_leaves_nothing(pages: int, ahead: bool) -> None:
    """The short one has been computed when it is given up, but nobody has read it."""
    door, model = engine(pages=40, chunk=32, ahead=ahead)
    door.submit(request_for(2, prompt(2, 5), 9))
    events = door.step()
    door.submit(request_for(1, prompt(1, pages * PAGE), 0, embeds=True))
    events += [event for _ in range(3) for event in door.step()]
    door.cancel(1)
    events += door.run()
    assert not vectors(events) and answers(events) == {2: greedy(prompt(2, 5), 9)}
    assert model.computed <= 5 + 9 + 3 * PAGE and not door.busy
    clear(door.pager)
    assert door.pager.pages_free == 40 and not any(door.step() for _ in range(2))


def test_texts_and_a_stream_share_each_step_and_none_is_longer_than_a_chunk() -> None:
    door, model = engine(pages=200, chunk=40, batch=8)
    door.submit(request_for(0, prompt(1, 3), 50, client="chat"))
    tokens = list(answers(door.step()).get(0, []))
    for number in range(1, 20):
        door.submit(request_for(number, prompt(number, 70), 0, embeds=True, client="bulk"))
    while door.scheduler.waiting or len(door.scheduler.running) > 1:
        tokens += answers(door.step()).get(0, [])
    assert max(model.steps[1:]) <= 41 and len(model.steps) == len(tokens)


@pytest.mark.parametrize("ahead", [False, True])
def test_several_texts_and_prompts_in_one_step_are_told_apart(ahead: bool) -> None:
    door, model = engine(pages=200, chunk=64, ahead=ahead)
    for number in range(12):
        tokens, embeds = prompt(number, 3 + 5 * number), number % 3 != 2
        door.submit(request_for(number, tokens, 0 if embeds else 4, embeds=embeds))
    events = list(door.run())
    own, said = vectors(events), answers(events)
    for number in range(12):
        tokens = prompt(number, 3 + 5 * number)
        if number in own:
            assert np.abs(own[number] - vector(tokens)).max() < 1e-6
        else:
            assert said[number] == greedy(tokens, 4)
    assert len(own) == 8 and max(model.steps) >= 64


def test_no_text_has_a_step_for_itself_where_others_run_far_more() -> None:
    door, _ = engine(pages=200, chunk=40)
    for number in range(8):
        door.submit(request_for(number, prompt(number, 3), 90, client="many", ignore_eos=True))
    door.step()
    door.submit(request_for(9, prompt(9, 300), 0, embeds=True, client="few"))
    counts = [len(answers(door.step())) for _ in range(6)]
    assert counts == [8] * 6
    door.submit(request_for(10, prompt(10, 300), 1, client="few"))  # as an answer's first token has
    assert 0 in [len(answers(door.step())) for _ in range(4)]


def test_what_cannot_be_embedded_is_refused() -> None:
    door, _ = engine(pages=8)
    with pytest.raises(Refusal, match="context is 256 tokens"):
        door.submit(request_for(1, prompt(1, 257), 0, embeds=True))
    forward = door.forward

    def broken(batch: Batch) -> Output:
        out = forward(batch)
        return Output(out.logits, None if out.hidden is None else out.hidden * mx.array(np.nan))

    door.forward = broken
    door.submit(request_for(2, prompt(1, 256), 0, embeds=True))
    door.submit(request_for(3, prompt(1, 5), 2))
    refused = [event for event in door.run() if isinstance(event, Refused)]
    assert [(event.request, event.code) for event in refused] == [(2, "numerics")]
