"""The pages and states of a sequence from its start to its release, step by step."""

import pytest

from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.pager import Pager
from bessemer.engine.sequence import Holdings, Sequence
from bessemer.kernels.attention.pages import PAGE

from .paper_model import clear, prompt, request_for

CHUNK = 2 * PAGE


def pager(sizes: CacheSizes) -> Pager:
    return Pager(sizes, PAGE, CHUNK)


def sequence(length: int, seed: int = 1, **more: object) -> Sequence:
    return Sequence.of(request_for(1, prompt(seed, length), 5, **more))


def begun(pages: Pager, state: Sequence) -> Sequence:
    pages.start(state, pages.match(state))
    return state


def computed(pages: Pager, state: Sequence, count: int) -> None:
    assert pages.grow(state, count)
    pages.commit(state, count)


def test_full_pages_stay_in_the_tree_and_private_ones_are_released() -> None:
    pages = pager(CacheSizes((None,), (4,)))
    first = begun(pages, sequence(3 * PAGE - 5))
    computed(pages, first, 3 * PAGE - 5)
    held = first.pages
    assert len(held.tables[0]) == 3 and len(held.path) == 2 and pages.pages_free == 1
    shared = held.tables[0][:2]
    pages.release(first)
    assert (first.pages, first.computed) == (Holdings(), 0)
    assert pages.pages_free == pages.pages_total == 4 and pages.pools[0].free == 2
    second = begun(pages, sequence(2 * PAGE + 9))
    assert second.computed == 2 * PAGE and second.pages.tables == [shared]


@pytest.mark.parametrize(
    ("state", "matched"),
    [
        (sequence(2 * PAGE), PAGE),  # the last token is computed in any case
        (sequence(2 * PAGE + 1), 2 * PAGE),
        (sequence(2 * PAGE + 1, prompt_logprobs=0), 0),
        (sequence(2 * PAGE + 1, salt="other"), 0),
        (sequence(2 * PAGE + 1, seed=2), 0),
    ],
)
def test_a_match_is_of_pages_with_the_same_tokens_and_salt(state: Sequence, matched: int) -> None:
    pages = pager(CacheSizes((None,), (8,)))
    computed(pages, begun(pages, sequence(2 * PAGE)), 2 * PAGE)
    assert begun(pages, state).computed == matched


def test_pages_that_could_be_allocated_stay_where_there_were_too_few() -> None:
    pages = pager(CacheSizes((None,), (3,)))
    one, other = begun(pages, sequence(40)), begun(pages, sequence(3 * PAGE, seed=2))
    assert pages.grow(one, 40) and not pages.grow(other, 3 * PAGE)
    assert len(other.pages.tables[0]) == 1 and pages.pages_free == 0
    pages.release(one)
    assert pages.grow(other, 3 * PAGE) and len(set(other.pages.tables[0])) == 3


def test_who_fits_may_evict_but_not_what_it_is_about_to_use() -> None:
    pages = pager(CacheSizes((None,), (4,)))
    done = begun(pages, sequence(2 * PAGE))
    computed(pages, done, 2 * PAGE)
    pages.release(done)  # two pages are idle, two are free

    def fits(state: Sequence) -> bool:
        return pages.fits(pages.match(state))

    assert fits(sequence(4 * PAGE - 1, seed=2)) and not fits(sequence(4 * PAGE, seed=2))
    assert fits(sequence(4 * PAGE - 1)) and not fits(sequence(4 * PAGE))


def test_a_sequence_has_a_slot_and_a_copy_of_the_state_it_goes_on_from() -> None:
    pages = pager(CacheSizes((), (), 3))
    first = begun(pages, sequence(PAGE + 3))
    assert pages.take_copies() == [] and pages.states_free == 2
    computed(pages, first, PAGE)
    ((source, snapshot),) = pages.take_copies()
    assert source == first.pages.state_slot != snapshot
    assert pages.take_copies() == []
    second = begun(pages, sequence(PAGE + 9))
    assert pages.take_copies() == [(snapshot, second.pages.state_slot)] and second.computed == PAGE
    assert pages.fits(pages.match(sequence(5, seed=3)))
    third = begun(pages, sequence(PAGE + 9))  # takes the very state slot that it goes on from
    assert third.pages.state_slot == snapshot and pages.take_copies() == []
    assert not pages.fits(pages.match(sequence(5, seed=3)))
    for state in (first, second, third):
        pages.release(state)
    assert pages.states_free == 3 and clear(pages) == 0 and not pages.tree._roots


def test_an_answers_state_takes_the_place_of_the_one_before_unless_it_was_of_use() -> None:
    pages = pager(CacheSizes((), (), 6))
    state = begun(pages, sequence(PAGE + 3))
    computed(pages, state, PAGE)
    computed(pages, state, 3)
    free = []
    for page in range(4):
        if page == 3:
            assert state.pages.mark is not None
            state.pages.mark.reused = True
        state.tokens.extend(range(PAGE))
        computed(pages, state, PAGE - state.computed % PAGE)
        free.append(pages.pools[0].free)
    assert free == [3, 3, 3, 2]  # beside its own and the prompt's


def test_chunks_end_where_a_prompt_like_this_one_would_begin() -> None:
    pages = pager(CacheSizes((), (), 2))
    state = begun(pages, sequence(3 * PAGE + 5))
    assert pages.cut(state, CHUNK + 7) == CHUNK and pages.cut(state, 7) == 7
    computed(pages, state, CHUNK + 7)
    assert pages.cut(state, CHUNK) == PAGE - 7 and pages.next_shared(state) == 3 * PAGE
    computed(pages, state, PAGE - 7)
    assert pages.cut(state, CHUNK) == CHUNK and pages.next_shared(state) == 0
    plain = pager(CacheSizes((None,), (4,)))
    other = begun(plain, sequence(3 * PAGE + 5))
    assert plain.cut(other, CHUNK + 7) == CHUNK + 7 and plain.next_shared(other) == PAGE


def test_a_window_leaves_pages_behind_private_ones_and_shared() -> None:
    pages = pager(CacheSizes((PAGE,), (4,)))
    state = begun(pages, sequence(4 * PAGE))
    computed(pages, state, 2 * PAGE)  # the first is left before it could be shared
    assert state.pages.firsts == [1] and state.pages.tables[0][0] == 0
    assert pages.pools[0].free == 3 and pages.tree.idle(0) == 0
    computed(pages, state, PAGE)
    assert state.pages.firsts == [2] and pages.pools[0].free == 2 and pages.tree.idle(0) == 1
    pages.release(state)
    assert pages.pages_free == 4


def test_fewer_tokens_may_be_accepted_than_pages_were_allocated_for() -> None:
    pages = pager(CacheSizes((None, PAGE), (6, 6)))
    state = begun(pages, sequence(PAGE + 2))
    assert pages.grow(state, 3 * PAGE)
    pages.commit(state, PAGE + 1)
    tables = [list(table) for table in state.pages.tables]
    assert state.computed == PAGE + 1 and len(state.pages.path) == 1
    assert pages.grow(state, 5) and state.pages.tables == tables  # what lies there is overwritten
    pages.release(state)
    assert pages.pages_free == 12 and clear(pages) == 2


def test_pages_of_a_match_are_in_use_from_the_start() -> None:
    pages = pager(CacheSizes((None,), (4,)))
    done = begun(pages, sequence(2 * PAGE))
    computed(pages, done, 2 * PAGE)
    pages.release(done)
    assert pages.pages_free == 4
    begun(pages, sequence(2 * PAGE + 9))
    assert pages.pages_free == 2
    assert not pages.grow(begun(pages, sequence(3 * PAGE, seed=2)), 3 * PAGE)


@pytest.mark.parametrize(
    ("leader", "count", "waiting", "follows"),
    [
        (3 * PAGE, 0, 2 * PAGE + 9, True),
        (3 * PAGE, PAGE, 2 * PAGE + 9, True),
        (3 * PAGE, PAGE, 2 * PAGE, False),  # the last token is computed in any case
        (3 * PAGE, 2 * PAGE, 2 * PAGE + 9, False),  # all that both have is there
        (2 * PAGE, 2 * PAGE - 2, 2 * PAGE + 9, True),
        (2 * PAGE, 2 * PAGE - 1, 2 * PAGE + 9, False),  # it only decodes from here on
    ],
)
def test_a_prompt_waits_for_one_that_will_soon_share_more(
    leader: int, count: int, waiting: int, follows: bool
) -> None:
    pages = pager(CacheSizes((None,), (8,)))
    running, state = begun(pages, sequence(leader)), sequence(waiting)
    both = min(leader, waiting) // PAGE * PAGE
    assert pages.follow(state, 0, [running]) and state.leader == (running, both)
    if count:
        computed(pages, running, count)
    assert pages.follows(state) is follows
    pages.release(running)
    assert not pages.follows(state)


def test_nobody_waits_for_a_stranger_or_for_what_is_there() -> None:
    pages = pager(CacheSizes((None,), (8,)))
    running = begun(pages, sequence(3 * PAGE))
    assert not pages.follow(sequence(2 * PAGE + 9, seed=2), 0, [running])
    assert not pages.follow(sequence(2 * PAGE + 9, prompt_logprobs=0), 0, [running])
    assert not pages.follow(sequence(2 * PAGE + 9), PAGE, [running])
    assert not pages.follow(sequence(PAGE), 0, [running])
