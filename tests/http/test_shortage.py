"""The policy alone: how a worker's memory shrinks, and when it is given up."""

from bessemer.http.shortage import DEATHS, LONG, Shortage


def test_each_death_leaves_less_and_the_last_is_the_end() -> None:
    shortage, memory, had = Shortage(1000), 1000, []
    for _ in range(DEATHS):
        assert not shortage.why
        had.append(memory)
        memory = shortage.killed(memory)
    assert had == [1000, 750, 562]
    assert shortage.why == "it was killed 3 times because memory was short"


def test_deaths_before_a_long_service_count_no_more_and_memory_has_a_least() -> None:
    shortage, memory = Shortage(1000), 1000
    for _ in range(50):
        memory = shortage.killed(shortage.killed(memory))
        shortage.served(LONG + 1)
        assert not shortage.why and memory == 562
    assert Shortage(1000).killed(100) == 100  # what was set by others never grows


def test_a_service_that_was_short_does_not_undo_deaths() -> None:
    shortage = Shortage(1000)
    for _ in range(DEATHS):
        shortage.served(LONG - 1)
        shortage.killed(1000)
    assert shortage.why


def test_less_that_does_not_fit_is_the_end_but_a_failure_alone_is_not() -> None:
    shortage = Shortage(1000)
    shortage.failed("no weights")
    assert not shortage.why
    shortage.killed(1000)
    shortage.failed("the model does not fit")
    assert shortage.why.endswith("with less of it: the model does not fit")
