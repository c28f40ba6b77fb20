"""The byte plan: what fits, what does not, and what the refusal says."""

from typing import Any

import pytest

from bessemer.engine.cache_sizes import CacheSizes, max_held
from bessemer.engine.memory import DoesNotFit, Plan, Windowed, plan_memory, size

GB = 10**9
MODEL: dict[str, Any] = {
    "weights": 4 * GB,
    "working": GB // 10,
    "page": 4_000_000,
    "page_tokens": 32,
}


def test_the_automatic_pool_takes_half_of_what_is_left_at_most() -> None:
    plan = plan_memory(budget=10 * GB, context=131072, **MODEL)
    assert plan.pool <= (10 * GB - 4 * GB - GB // 10) // 2
    assert plan.pool > 0.98 * (10 * GB - 4 * GB - GB // 10) // 2
    assert plan.context == plan.pages * 32 < 131072


def test_a_small_context_gets_a_few_conversations_and_no_more() -> None:
    plan = plan_memory(budget=100 * GB, context=2048, **MODEL)
    assert (plan.pages, plan.context) == (4 * 2048 // 32, 2048)


def test_a_pool_that_was_asked_for_is_taken_at_its_word() -> None:
    plan = plan_memory(budget=5 * GB, context=131072, pool=2 * GB, **MODEL)
    assert plan.pages == 500


@pytest.mark.parametrize("budget", [3 * GB, 4_150_000_000])
def test_what_does_not_fit_is_refused_with_the_numbers(budget: int) -> None:
    with pytest.raises(DoesNotFit) as caught:
        plan_memory(budget=budget, context=131072, **MODEL)
    assert "4 GB" in str(caught.value) and "--kv-cache" in str(caught.value)
    assert "for its KV pool, but it was given" in str(caught.value)
    assert size(budget) in str(caught.value)


@pytest.mark.parametrize("state", [0, 1000, 10_000_001])
@pytest.mark.parametrize("windows", [(), ((1024, 1_000_003),)])
def test_the_least_pool_is_said_and_is_enough(state: int, windows: Any) -> None:
    rest: dict[str, Any] = MODEL | {"state": state, "windows": windows}
    with pytest.raises(DoesNotFit, match=r"--kv-cache is 1 KB, but .* at least .* MB") as caught:
        plan_memory(budget=5 * GB, context=131072, pool=1000, **rest)
    least = int(float(str(caught.value).split()[-2]) * 10**6)
    assert plan_memory(budget=5 * GB, context=131072, pool=least, **rest).context >= 8 * 32
    with pytest.raises(DoesNotFit):
        plan_memory(budget=5 * GB, context=131072, pool=int(least * 0.99), **rest)


def test_one_answer_gets_its_own_length_and_nothing_beside() -> None:
    alone: dict[str, Any] = MODEL | {"batch": 1, "one_answer": True}
    plan = plan_memory(budget=100 * GB, context=70, **alone)
    assert (plan.pages, plan.context) == (3, 70)
    stateful: dict[str, Any] = alone | {"state": 10_000_000}
    plan = plan_memory(budget=100 * GB, context=131072, **stateful)
    assert (plan.pages, plan.states) == (131072 // 32, 2)


def test_the_plan_reads_as_one_line() -> None:
    text = str(plan_memory(budget=100 * GB, context=2048, **MODEL))
    assert (
        "weights 4 GB" in text and "1.02 GB (256 pages of 4 MB)" in text and "2048 tokens" in text
    )


def test_what_the_program_takes_is_neither_weights_nor_pool() -> None:
    alone = plan_memory(budget=5 * GB, context=131072, **MODEL)
    beside = plan_memory(budget=5 * GB, context=131072, program=GB // 2, **MODEL)
    assert alone.pages - beside.pages == GB // 4 // MODEL["page"] and beside.program == GB // 2
    assert "program about 500 MB" in str(beside) and "program" not in str(alone)
    with pytest.raises(DoesNotFit, match="besides about 2 GB for the program, but it was given"):
        plan_memory(budget=5 * GB, context=131072, program=2 * GB, **MODEL)


WINDOW = 1024
HELD = max_held(WINDOW, 256, 32)
BESIDE: dict[str, Any] = MODEL | {"windows": [(WINDOW, 1_000_000)], "batch": 4, "chunk": 256}


def test_windows_get_what_running_sequences_and_a_few_more_need() -> None:
    plan = plan_memory(budget=1000 * GB, context=131072, **BESIDE)
    assert plan.windows == (Windowed(WINDOW, 1_000_000, 12 * HELD),)
    assert (plan.pages, plan.context) == (4 * 131072 // 32, 131072)
    assert plan.pool == 4_000_000 * plan.pages + 1_000_000 * 12 * HELD


def test_windows_get_no_more_pages_than_full_attention() -> None:
    plan = plan_memory(budget=5 * GB, context=131072, pool=GB // 2, **BESIDE)
    assert plan.pages == 100 and plan.windows[0].pages == 100  # of 4 and of 1 MB
    assert plan.context == 3200
    assert plan.sizes == CacheSizes((None, WINDOW), (100, 100))
    more = plan_memory(budget=9 * GB, context=131072, pool=4 * GB, **BESIDE)
    assert more.windows[0].pages == 12 * HELD
    assert more.pages == (4 * GB - 12 * HELD * 1_000_000) // 4_000_000


def test_windows_alone_let_a_conversation_be_as_long_as_it_likes() -> None:
    alone: dict[str, Any] = BESIDE | {"page": 0}
    plan = plan_memory(budget=5 * GB, context=131072, pool=HELD * 1_000_000, **alone)
    assert (plan.pages, plan.windows[0].pages, plan.context) == (0, HELD, 131072)
    assert plan.sizes == CacheSizes((WINDOW,), (HELD,))
    less = plan_memory(budget=5 * GB, context=131072, pool=(HELD - 1) * 1_000_000, **alone)
    assert less.context == (HELD - 1) * 32
    with pytest.raises(DoesNotFit):
        plan_memory(budget=5 * GB, context=131072, pool=7_000_000, **alone)


def test_the_narrower_of_two_windows_gets_fewer_pages() -> None:
    two: dict[str, Any] = BESIDE | {"page": 0, "windows": [(WINDOW, 1_000_000), (64, 2_000_000)]}
    plan = plan_memory(budget=1000 * GB, context=131072, **two)
    assert [each.pages for each in plan.windows] == [12 * HELD, 12 * max_held(64, 256, 32)]


STATE: dict[str, Any] = MODEL | {"state": 10_000_000, "batch": 4}


def test_states_take_half_of_the_pool_at_most() -> None:
    plan = plan_memory(budget=5 * GB, context=131072, pool=GB, **STATE)
    assert (plan.states, plan.pages) == (49, 125)  # and the state that is nobody's
    assert plan.pool == GB and plan.sizes == CacheSizes((None,), (125,), 49)
    wide = plan_memory(budget=1000 * GB, context=131072, **STATE)
    assert (wide.states, wide.pages) == (4 + 63, 4 * 131072 // 32)
    narrow = plan_memory(budget=5 * GB, context=131072, pool=65_000_000, **STATE)
    assert (narrow.states, narrow.pages) == (2, 8)


def test_states_alone_take_all_of_it() -> None:
    alone: dict[str, Any] = STATE | {"page": 0}
    plan = plan_memory(budget=5 * GB, context=131072, pool=200_000_000, **alone)
    assert (plan.states, plan.pages, plan.context) == (19, 0, 131072)
    assert plan.sizes == CacheSizes((), (), 19)
    assert plan_memory(budget=5 * GB, context=131072, pool=30_000_000, **alone).states == 2


@pytest.mark.parametrize(("page", "pool"), [(4_000_000, 61_000_000), (0, 29_000_000)])
def test_states_of_one_conversation_have_to_fit(page: int, pool: int) -> None:
    with pytest.raises(DoesNotFit) as caught:
        other: dict[str, Any] = STATE | {"page": page}
        plan_memory(budget=5 * GB, context=131072, pool=pool, **other)
    assert size(8 * page + 30_000_000) in str(caught.value)


def test_the_plan_names_windows_and_states() -> None:
    text = str(Plan(GB, GB, 0, 4000, 10, 320, (Windowed(64, 1000, 5),), 500, 9))
    assert "KV pool 50 KB (10 pages of 4 KB, 5 pages of 1 KB for windows of 64 tokens, " in text
    assert "9 states of 500 B)" in text
    assert "KV pool 5 KB (9 states of 500 B)" in str(Plan(GB, GB, 0, 0, 0, 320, (), 500, 9))
