"""Caches beside full attention's: what is found again, what is given back, what is computed."""

import pytest

from bessemer.architectures.config import Rope
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.engine import Engine
from bessemer.engine.prefix_cache import STATES as STATE_GROUP
from bessemer.engine.request import Event, Started, Token
from bessemer.engine.scheduler import Limits
from bessemer.kernels.attention.pages import PAGE

from .paper_model import END, PaperModel, answers, engine, greedy, prompt, request_for, text

STATES = CacheSizes((), (), 20)
HYBRID = CacheSizes((None,), (200,), 20)


def cached(events: list[Event]) -> list[int]:
    """Return each request's tokens found in the cache, in the order of their admission."""
    return [event.cached for event in events if isinstance(event, Started)]


def test_a_window_needs_few_pages_however_long_the_sequence() -> None:
    door, _ = engine(sizes=CacheSizes((64,), (5,)), context=2000, chunk=48)
    door.submit(request_for(1, prompt(1, 1200), 300))
    door.submit(request_for(2, prompt(2, 900), 100))
    oracle = {
        n: greedy(prompt(n, size), count, CacheSizes((64,), (5,)))
        for n, size, count in ((1, 1200, 300), (2, 900, 100))
    }
    assert answers(door.run()) == oracle


def test_a_window_is_found_again_where_all_of_it_is_there() -> None:
    sizes = CacheSizes((None, 64), (60, 20))
    door, _ = engine(sizes=sizes, context=1000)
    tokens = prompt(1, 320)
    door.submit(request_for(1, tokens, 2))
    first = list(door.run())
    more = [*tokens, *prompt(2, 40)]
    door.submit(request_for(2, more, 3))
    door.submit(request_for(3, tokens[:96], 3))  # of the pages before, windows went to nobody
    events = [*first, *door.run()]
    assert cached(events) == [0, 320, 0]
    assert answers(events)[2] == greedy(more, 3, sizes)


@pytest.mark.parametrize("sizes", [STATES, HYBRID], ids=["states", "hybrid"])
@pytest.mark.parametrize("length", [50, 64, 65, 100])
def test_a_prompt_and_what_follows_it_are_found(sizes: CacheSizes, length: int) -> None:
    door, _ = engine(sizes=sizes, context=1000)
    tokens = prompt(1, length)
    prompts = [tokens, [*tokens, *prompt(2, 40)], tokens]
    events: list[Event] = []
    for number, each in enumerate(prompts):
        door.submit(request_for(number, each, 2))
        events += door.run()
    last = (length - 1) // PAGE * PAGE
    assert cached(events) == [0, length // PAGE * PAGE, last]
    assert answers(events) == {n: greedy(each, 2, sizes) for n, each in enumerate(prompts)}


@pytest.mark.parametrize("sizes", [STATES, HYBRID], ids=["states", "hybrid"])
def test_a_long_prompt_leaves_states_on_the_way(sizes: CacheSizes) -> None:
    door, model = engine(sizes=sizes, context=3000, chunk=250)
    tokens = prompt(1, 2000)
    events: list[Event] = []
    for number, length in enumerate((2000, 1200, 520)):
        door.submit(request_for(number, [*tokens[:length], *prompt(9, 50)], 1))
        events += door.run()
    # Chunks of 250 end at pages: states are of 672, 1344, 2016 and 2048 tokens; then 1248; 544.
    assert cached(events) == [0, 672, 0]
    assert door.pager.pools[STATE_GROUP].free == 20 - 6
    assert max(model.steps) <= 250


def test_an_answer_keeps_its_last_state_alone_but_for_those_that_were_found() -> None:
    door, _ = engine(sizes=STATES, context=1000)
    tokens = prompt(1, 40)
    answer = greedy(tokens, 200, STATES)
    door.submit(request_for(1, tokens, 200))
    states = 0
    while len(door._active[1].tokens) < 40 + 70:
        door.step()
        states = 20 - door.pager.pools[STATE_GROUP].free - 1
        assert states <= 2  # of the prompt's page and the answer's last
    assert states == 2
    door.submit(request_for(2, [*tokens, *answer[:60], 5], 1))  # begins with the third page's state
    events = list(door.run())
    assert cached(events) == [96] and answers(events)[2] == greedy(
        [*tokens, *answer[:60], 5], 1, STATES
    )
    assert 20 - door.pager.pools[STATE_GROUP].free == 3
    door.submit(request_for(3, [*tokens, *answer], 1))
    assert cached(list(door.run())) == [(40 + 200 - 1) // PAGE * PAGE]


@pytest.mark.parametrize("sizes", [STATES, HYBRID], ids=["states", "hybrid"])
def test_answers_to_one_prompt_share_its_prefill(sizes: CacheSizes) -> None:
    door, model = engine(sizes=sizes, context=1000, chunk=64)
    tokens = prompt(1, 200)
    for number in range(4):
        door.submit(request_for(number, tokens, 3))
    assert answers(door.run()) == dict.fromkeys(range(4), greedy(tokens, 3, sizes))
    assert model.computed <= 200 + 3 * (200 % PAGE) + 4 * 3


def test_who_shares_a_beginning_alone_waits_for_its_state() -> None:
    door, _ = engine(sizes=STATES, context=6000, chunk=256)
    tokens = prompt(1, 2000)
    for number in range(3):
        door.submit(request_for(number, [*tokens, *prompt(10 + number, 30)], 2))
    events = list(door.run())
    assert cached(events) == [0, 1536, 1536]  # states come every 512 tokens
    assert answers(events) == {
        n: greedy([*tokens, *prompt(10 + n, 30)], 2, STATES) for n in range(3)
    }


def test_nobody_waits_for_a_state_that_is_lost() -> None:
    door, _ = engine(sizes=STATES, context=1000, chunk=96)
    door.submit(request_for(1, prompt(1, 100), 2))
    door.step()
    assert door.pager.tree.evict(STATE_GROUP)
    door.submit(request_for(2, prompt(1, 100), 2))
    assert cached(door.step()) == [0]


def test_with_slots_for_running_sequences_alone_nothing_is_kept_and_all_is_right() -> None:
    sizes = CacheSizes((), (), 2)
    door, _ = engine(sizes=sizes, context=1000)
    for number in range(5):
        door.submit(request_for(number, prompt(number % 2, 70), 40))
    assert answers(door.run()) == {n: greedy(prompt(n % 2, 70), 40, sizes) for n in range(5)}
    assert door.pager.states_free == 2


LONG = Rope(64, kind="longrope", original_context=100, context=1000)
DYNAMIC = Rope(64, kind="dynamic", context=100)


@pytest.mark.parametrize(
    ("rope", "oracle"),
    [(LONG, [0, 64, 0, 64]), (DYNAMIC, [0, 64, 0, 0]), (Rope(64), [0, 64, 64, 64])],
)
def test_a_prefix_is_not_found_where_its_rope_differs(rope: Rope, oracle: list[int]) -> None:
    sizes = CacheSizes((None,), (64,))
    max_lens: list[list[int] | None] = []
    model = PaperModel(sizes)

    def forward(batch):  # type: ignore[no-untyped-def]
        array = batch.step.max_lens
        max_lens.append(None if array is None else sorted(set(array.tolist())))
        return model(batch)

    door = Engine(forward, Limits(400), sizes, [END], text, [rope])
    events: list[Event] = []
    for number, count in enumerate((5, 6, 60, 70)):
        door.submit(request_for(number, prompt(1, 70), count))
        events += door.run()
    assert cached(events) == oracle
    assert all(isinstance(event, Started | Token) for event in events)
    seen = [lens for lens in max_lens if lens is not None]
    assert {max_len for lens in seen for max_len in lens} == (
        {75, 76, 130, 140} if rope.varies else set()
    )
