"""What keeps a model from being loaded: a sentence for the user, or a bug's own traceback."""

from contextvars import copy_context
from typing import cast

import pytest

from bessemer.engine.devices import DEVICES, SHORT, SIMULATED, LoadError, choose_device, explained
from bessemer.engine.settings import Settings
from bessemer.kernels.cpu import library
from bessemer.kernels.metal.device import Nowhere, Simulator, used
from bessemer.kernels.simulator import compiler
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


def chosen(metal: str, capfd: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Return the device that settings name, None where it is left as it is, and what is said."""

    def choose() -> object:
        choose_device(Settings(metal=metal))  # type: ignore[arg-type]
        return used.get()

    context = copy_context()
    context.run(used.set, None)
    return context.run(choose), capfd.readouterr().err


def test_the_device_is_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(compiler, "require", lambda: asked.append(1))
    assert chosen("auto", capfd) == (None, "") and chosen("off", capfd) == (Nowhere(), "")
    assert not asked
    for name in ("simulator", "checked", "apple-like"):
        assert chosen(name, capfd) == (DEVICES[name], f"{SIMULATED}\n")
    assert len(asked) == 3
    options = [cast(Simulator, DEVICES[name]).options for name in ("checked", "apple-like")]
    assert (options[0].mode, options[1].apple_like) == ("check", True)
