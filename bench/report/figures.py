"""Steps about the machine and its speed: what it is, tokens a second, the GPU's own counters."""

import json
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import mlx.core as mx

from bessemer.bench.compare.machine import describe
from bessemer.bench.report.finding import How, Item, Outcome, State
from bessemer.bench.report.kernels import devices
from bessemer.bench.report.models import QUESTIONS, answer
from bessemer.engine.settings import Settings
from bessemer.kernels.metal.device import using

# What is asked of a machine to describe it; a program that it lacks is left out.
ASKED: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "system": ("sw_vers",),
        "model": ("sysctl", "-n", "hw.model"),
        "memory pressure": ("memory_pressure", "-Q"),
        "power": ("pmset", "-g", "therm"),
        "Metal's compiler": ("xcrun", "metal", "--version"),
    }
)
QUICK = ("--rounds", "3", "--budget", "20")
# `bessemer bench`, by what the report calls it; and whether mlx_lm runs beside us, if it is there.
COMMANDS: Mapping[str, tuple[tuple[str, ...], bool]] = MappingProxyType(
    {
        "decode, built-in model": (("decode", *QUICK), True),
        "prefill, built-in model": (("prefill", *QUICK, "--lengths", "128,512"), True),
        "batch, built-in model": (("batch", *QUICK, "--streams", "1,4,8"), True),
        "host, tiny": (("host", "--shape", "tiny", "--steps", "8", "--streams", "1,4"), False),
        "decode, llama-3.2-1b": (
            ("decode", "--shape", "llama-3.2-1b", *QUICK, "--context", "32,4096"),
            True,
        ),
        "prefill, llama-3.2-1b": (("prefill", "--shape", "llama-3.2-1b", *QUICK), True),
        "batch, llama-3.2-1b": (
            ("batch", "--shape", "llama-3.2-1b", *QUICK, "--streams", "1,4,8"),
            True,
        ),
        "decode, qwen3-1.7b": (("decode", "--shape", "qwen3-1.7b", *QUICK), True),
        "host, llama-3.2-1b": (("host", "--shape", "llama-3.2-1b", "--streams", "1,8"), False),
    }
)
SIMULATED = "host, tiny"  # the one whose figures do not depend on where kernels run
COUNTERS = ("ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
STATISTICS = re.compile(r'"PerformanceStatistics" = \{([^}]*)\}')
STATISTIC = re.compile(r'"([^"]+)"=(\d+)')
PAUSE = 0.5  # seconds between two looks at the counters


def machine(_: str, how: How) -> Iterator[Item]:
    """Say what machine this is."""
    yield "versions", lambda: Outcome("figure", str(describe()))
    yield "GPU", partial(_gpu, how)
    for name, command in ASKED.items():
        yield name, partial(_said, command)


def _gpu(how: How) -> Outcome:
    if how.simulated:
        return Outcome("figure", "the simulator: a CPU model of Metal, not a GPU")
    about = {name: str(value) for name, value in mx.device_info().items()}
    about["macOS"] = platform.mac_ver()[0]
    return Outcome("figure", about.get("device_name", ""), about)


def _said(command: Sequence[str]) -> Outcome:
    if shutil.which(command[0]) is None:
        return Outcome("left out", f"there is no {command[0]} here")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = (done.stdout or done.stderr).strip()
    return Outcome("left out" if done.returncode else "figure", text)


def bench(part: str, how: How) -> Iterator[Item]:
    """Run one of `bessemer bench`'s commands, and keep its whole result."""
    yield "", partial(_benched, part, how)


def _benched(part: str, how: How) -> Outcome:
    if how.simulated and part != SIMULATED:
        return Outcome("left out", "the simulator's speed says nothing")
    arguments, beside = COMMANDS[part]
    against = ("--against", "mlx_lm") if beside and find_spec("mlx_lm") else ()
    command = [*(sys.executable, "-P", "-m", "bessemer.bench.compare.cli"), *arguments, *against]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    details: dict[str, Any] = {"command": f"bessemer bench {' '.join((*arguments, *against))}"}
    if not done.stdout:
        return Outcome("error", done.stderr.strip() or "it said nothing", details)
    details["result"] = json.loads(done.stdout)
    details["warnings"] = done.stderr.strip()
    state: State = "error" if done.returncode else "figure"
    return Outcome(state, "; ".join(sentences(details["result"])), details)


def sentences(result: Mapping[str, Any]) -> Iterator[str]:
    """Say the main figures of a result of `bessemer bench`."""
    for each in result.get("figures", ()):  # of `bench host`
        yield (
            f"{each['streams']} streams: {each['tokens_per_second']:,.0f} tok/s by the model of "
            f"time, GPU busy {each['busy']:.0%}"
        )
    for each in result.get("rows", ()):
        ratio = each.get("ratio")
        beside = f" (ours / theirs {ratio['median']:.2f})" if ratio else ""
        case = f"{each['contestant']}, {each['case']}, {each['metric']}"
        yield f"{case}: {each['median']:,.1f}{beside}"


def counters(_: str, how: How) -> Iterator[Item]:
    """Look at the GPU's counters while the built-in model answers."""
    yield "", partial(_counted, how)


def _counted(how: How) -> Outcome:
    if shutil.which(COUNTERS[0]) is None:
        return Outcome("left out", f"there is no {COUNTERS[0]} here")
    samples: list[Mapping[str, int]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(PAUSE):
            done = subprocess.run(COUNTERS, capture_output=True, text=True, check=False)
            samples.append(statistics(done.stdout))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with using(devices(how)[0]):
            answer(QUESTIONS[:1], Settings(max_batch=4, queue=8))
    finally:
        over.set()
        looking.join()
    names = sorted({name for each in samples for name in each})
    most = {name: max(each.get(name, 0) for each in samples) for name in names}
    said = ", ".join(f"{name} {value:,}" for name, value in most.items() if "tilization" in name)
    details = {"most": most, "samples": len(samples), "peak of MLX": mx.get_peak_memory()}
    return Outcome("figure", said, details)


def statistics(text: str) -> Mapping[str, int]:
    """Return the counters that ioreg prints of a GPU, by name."""
    found = STATISTICS.search(text)
    return {name: int(value) for name, value in STATISTIC.findall(found[1])} if found else {}
