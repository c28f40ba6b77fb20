"""What keeps a model from being loaded: a sentence for the user, or a bug's own traceback."""

import pytest

from bessemer.engine.devices import SHORT, LoadError, choose_device, explained
from bessemer.engine.settings import Settings
from bessemer.kernels.cpu import library
from bessemer.kernels.simulator.options import SimulatorError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no good"), "no good"),
        (OSError("no disk"), "no disk"),
        (SimulatorError("no compiler"), "no compiler"),
        (MemoryError(), SHORT),
        (RuntimeError("[malloc_or_wait] Unable to allocate 8 bytes."), SHORT),
    ],
)
def test_what_is_no_bug_is_a_sentence(error: Exception, message: str) -> None:
    with pytest.raises(LoadError) as caught, explained():
        raise error
    assert str(caught.value) == message


def test_a_bug_stays_one() -> None:
    with pytest.raises(RuntimeError, match="a bug"), explained():
        raise RuntimeError("a bug")


@pytest.mark.skipif(not library.compiled(), reason="there are no C kernels")
def test_a_tier_that_the_processor_lacks() -> None:
    missing = next(name for name in library.TIERS if name not in library.tiers())
    with pytest.raises(LoadError, match=f"the CPU tier {missing} does not run"), explained():
        choose_device(Settings(cpu_tier=missing))  # type: ignore[arg-type]
