"""What a process does before and while it loads a model: choose a device, explain what fails."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..kernels.cpu.library import use_tier
from ..kernels.metal.device import Device, Nowhere, Simulator, SimulatorOptions, use
from ..kernels.simulator.options import SimulatorError
from .settings import Settings

# The devices that `--metal` names; for "auto" it is the GPU, if there is one.
DEVICES: Mapping[str, Device | Nowhere] = {
    "simulator": Simulator(),
    "checked": Simulator(SimulatorOptions(mode="check")),
    "apple-like": Simulator(SimulatorOptions(apple_like=True)),
    "off": Nowhere(),
}
SIMULATED = (
    "Metal kernels run in the simulator: a CPU model of Metal, not Apple's compiler, not a GPU."
)
SHORT = (
    "there is not enough free memory to load the model; end other programs, or use a smaller one"
)


class LoadError(Exception):
    """A model cannot be loaded; the message is a sentence for the user."""


def choose_device(settings: Settings) -> None:
    """Use the tier and the device that settings name; SimulatorError: there is no compiler."""
    use_tier(settings.cpu_tier)
    if (device := DEVICES.get(settings.metal)) is not None:
        if isinstance(device, Simulator):
            from ..kernels.simulator.compiler import require

            require()
            print(SIMULATED, file=sys.stderr, flush=True)
        use(device)


@contextmanager
def explained() -> Iterator[None]:
    """Raise LoadError for what is no bug: files, settings, the system, memory."""
    try:
        yield
    except (ValueError, OSError, SimulatorError) as error:
        raise LoadError(str(error)) from None
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        raise LoadError(SHORT) from None


def _is_of_memory(error: Exception) -> bool:
    """Return whether no memory was to be had; MLX says so by a RuntimeError like any other."""
    return isinstance(error, MemoryError) or "alloc" in str(error)
