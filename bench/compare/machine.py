"""The facts about a machine that a saved figure tells: no names, no paths."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from bessemer.bench.compare.contest import Unavailable
from bessemer.kernels.cpu import library


class Machine(msgspec.Struct, frozen=True):
    """A machine: memory in bytes, physical `cores`, the C kernels' instruction set as `tier`."""

    cpu: str
    cores: int
    threads: int
    memory: int
    system: str
    python: str
    versions: dict[str, str]
    load: float | None = None  # of the last minute, before the measurement: 0 is idle
    tier: str = ""  # where operations do not run in C, and in reports of older versions

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        cpu = f"{self.cpu}, CPU tier {self.tier}" if self.tier else self.cpu
        return (
            f"{self.cores} cores of {cpu}, {self.memory / 2**30:.0f} GiB, {self.system}, "
            f"Python {self.python}, {versions}"
        )


def describe() -> Machine:
    return Machine(
        cpu=processor(),
        cores=cores(),
        threads=psutil.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: version for name in ("bessemer", "mlx") if (version := installed(name))},
        load=round(psutil.getloadavg()[0], 2),
        tier=cpu_tier(),
    )


def cpu_tier() -> str:
    """Choose the tier of BESSEMER_CPU_TIER, or the best, and return it; empty without C kernels.

    Call it before anything is computed. Raises Unavailable where the machine lacks the tier.
    """
    try:
        library.use_tier(os.environ.get("BESSEMER_CPU_TIER") or library.AUTO)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    return library.tier()


def cores() -> int:
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def processor() -> str:
    """Return the name by which the processor is sold."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or platform.machine()
