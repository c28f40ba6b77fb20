"""Which pages a window sees, and how many of them are needed at once."""

import pytest

from bessemer.engine.cache_sizes import CacheSizes, first_seen, max_held
from bessemer.kernels.attention.pages import PAGE


def test_without_states_none_is_kept() -> None:
    assert CacheSizes((None,), (3,)).states == 0


@pytest.mark.parametrize("window", [1, 2, 32, 33, 34, 64, 65, 100])
def test_the_first_page_that_a_token_sees(window: int) -> None:
    for position in range(300):
        assert first_seen(window, position, PAGE) == max(0, position - window + 1) // PAGE
        assert first_seen(None, position, PAGE) == 0
        for chunk in (1, 5, 32, 100):
            last = (position + chunk - 1) // PAGE
            assert last + 1 - first_seen(window, position, PAGE) <= max_held(window, chunk, PAGE)
