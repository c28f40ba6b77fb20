"""The watchdog by looks alone: what it counts, and what ends a worker."""

from bessemer.engine.wire import Pulse
from bessemer.http.watchdog import Limits, Watchdog

LIMITS = Limits(silence=4, standstill=40)


def looks(watchdog: Watchdog, most: int = 1000) -> tuple[int, str]:
    """Return after how many looks in silence a worker is ended, and for what."""
    for count in range(1, most):
        if reason := watchdog.look():
            return count, reason
    return most, ""


def test_silence_is_counted_in_looks_from_the_last_word() -> None:
    assert LIMITS.tick == 1.0 and Limits(0.4).tick == 0.1
    watchdog = Watchdog(LIMITS)
    watchdog.beat(Pulse("reading weights", 1, 0.0))
    assert looks(watchdog) == (5, "it gave no sign of life for 4 s")
    for sign in (lambda: watchdog.beat(Pulse("", 1, 0.0)), watchdog.stepped):
        sign()
        assert looks(watchdog)[0] == 5


def test_a_process_has_longer_for_its_first_word() -> None:
    assert looks(Watchdog(LIMITS)) == (41, "it gave no sign of life for 40 s")


def test_the_same_thing_for_too_long() -> None:
    for doing in ("step", "reading weights"):
        watchdog = Watchdog(LIMITS)
        seen = []
        for _ in range(60):
            watchdog.beat(Pulse(doing, 7, 0.0))
            seen.append(watchdog.look())
        assert seen.index(f"it did not get on for 40 s, {doing}") == 40


def test_waiting_is_no_standstill_and_neither_is_one_thing_after_another() -> None:
    watchdog = Watchdog(LIMITS)
    for count in range(300):
        assert watchdog.beat(Pulse("", 7, 0.0)) == (count == 0)
        assert not watchdog.look()
    for count in range(300):
        assert watchdog.beat(Pulse("step", 8 + count, 0.0))
        assert not watchdog.look()
    for _ in range(300):
        watchdog.beat(Pulse("step", 307, 0.0))
        watchdog.stepped()
        assert not watchdog.look()


def test_it_worries_before_it_acts() -> None:
    watchdog = Watchdog(LIMITS)
    watchdog.look()
    watchdog.look()
    assert not watchdog.worried  # nothing was heard yet, as is usual
    watchdog.beat(Pulse("", 1, 0.0))
    assert not watchdog.look() and not watchdog.worried
    assert not watchdog.look() and watchdog.worried
    watchdog.stepped()
    assert not watchdog.worried
