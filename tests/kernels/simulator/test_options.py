"""Tests of what the simulator's options are to clang."""

import pytest

from bessemer.kernels.simulator.options import Language, SimulatorOptions

from .running import I, planted


def test_apple_like_fuses_too() -> None:
    assert "-ffp-contract=off" in SimulatorOptions().flags
    for options in (SimulatorOptions(contract=True), SimulatorOptions(apple_like=True)):
        assert "-ffp-contract=on" in options.flags
    assert SimulatorOptions().flags != SimulatorOptions(apple_like=True).flags


@pytest.mark.parametrize(("version", "number"), [("3.1", 310), ("3.2", 320), ("4.0", 400)])
def test_a_kernel_can_ask_for_the_version(version: Language, number: int) -> None:
    (out,) = planted(f"{I}o[i] = __METAL_VERSION__;", "fast", options={"language": version})
    assert out[0].item() == number
