"""Hypothesis profiles: a quick one that is the same in every run, and a long one that explores.

BESSEMER_CPU_TIER=avx2 runs everything on that instruction set, and on those below it. With --quick,
what wants a compiler or another process is skipped as soon as it asks for one. A test fails that
launches a Metal kernel in a form that `bessemer kernels export` does not have.
"""

import os
import signal
import subprocess
from collections.abc import Generator
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from bessemer.kernels.cpu import library
from bessemer.kernels.cpu.library import AUTO, use_tier
from bessemer.kernels.metal.library import BoundKernel
from bessemer.kernels.simulator import kernel, standalone
from tests.kernels.forms import LAUNCHES, launch

# Servers that tests start have the built-in model, unless they name another.
os.environ.setdefault("BESSEMER_MODELS", "guide")
# Nor do they read the settings of whoever runs the tests.
os.environ["BESSEMER_CONFIG_DIR"] = f"{os.devnull}/none"

ENDS = (signal.SIGINT, signal.SIGTERM)  # which commands take into their own hands

# Shared machines stall: a deadline would fail tests for what the machine did.
settings.register_profile("quick", max_examples=300, deadline=None, derandomize=True)
settings.register_profile("brief", max_examples=20, deadline=None, derandomize=True)
settings.register_profile(
    "long",
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="skip what needs a compiler or a process")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick"):
        settings.load_profile("brief")
        return
    try:
        use_tier(os.environ.get("BESSEMER_CPU_TIER") or AUTO)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


BoundKernel.__call__ = launch  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Fail a test whose launches are not in the list of forms, which is made when one is."""
    result = yield
    if wrong := LAUNCHES.wrong():
        pytest.fail("kernels/variants.py lacks a form that was launched: " + "; ".join(wrong))
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, Any, Any]:
    """Put back what a test's command changed: who ignores a signal has deaf children."""
    before = {number: signal.getsignal(number) for number in ENDS}
    result = yield
    for number, handler in before.items():
        signal.signal(number, handler)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    if session.config.getoption("quick"):  # from now on: pytest itself starts processes before
        for owner, name in TOOLS:
            setattr(owner, name, skip)


# Where a test asks for a compiler, whether or not its work is in a cache, or for another process.
TOOLS: tuple[tuple[Any, str], ...] = (
    (library, "compiler"),
    (kernel, "kernel_library"),
    (standalone, "toolchain"),
    (subprocess.Popen, "__init__"),
)


def skip(*_: Any, **__: Any) -> NoReturn:
    """Skip the test that runs, or the module that is read."""
    pytest.skip("not with --quick", allow_module_level=True)
