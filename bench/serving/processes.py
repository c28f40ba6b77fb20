"""The cost of the processes behind a local port: CPU seconds, memory counted once (PSS)."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """The cost of the process that listens, and of all it started. Bytes and seconds."""

    server_cpu: float
    children_cpu: float
    pss: int

    def since(self, before: "ProcessCost") -> "ProcessCost":
        return ProcessCost(
            self.server_cpu - before.server_cpu,
            self.children_cpu - before.children_cpu,
            self.pss,
        )


def listener(port: int) -> psutil.Process | None:
    """Return the process that listens on a local port; None where it is not ours to see."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS shows them to root only
        return None
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port == port:
            return psutil.Process(connection.pid) if connection.pid else None
    return None


def cost(process: psutil.Process) -> ProcessCost:
    children = process.children(recursive=True)
    return ProcessCost(
        _cpu(process),
        sum(map(_cpu, children)),
        sum(map(pss, [process, *children])),
    )


def _cpu(process: psutil.Process) -> float:
    """Return seconds, exact where Linux says them; cpu_times counts in ticks of 10 ms."""
    try:
        stats = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in stats) / 1e9
    except (OSError, IndexError):
        times = process.cpu_times()
        return float(times.user + times.system)


def kept_waiting(process: int) -> float:
    """Return the milliseconds that a process's first thread has waited for a core, as Linux counts.

    0 where nobody counts them.
    """
    try:
        return int(Path(f"/proc/{process}/task/{process}/schedstat").read_text().split()[1]) / 1e6
    except (OSError, IndexError):
        return 0.0


def worker_of(server: psutil.Process) -> psutil.Process | None:
    """Return the process that computes for a server of ours; None if none runs."""
    for child in server.children():
        with suppress(psutil.Error):  # it may end while it is looked at
            if "bessemer.engine.worker" in child.cmdline():
                return child
    return None


def running_worker(server: psutil.Process) -> psutil.Process:
    """Return the same where one runs."""
    worker = worker_of(server)
    assert worker is not None
    return worker


def pss(process: psutil.Process) -> int:
    memory = process.memory_full_info()
    return int(getattr(memory, "pss", memory.rss))  # macOS has no PSS


def peak(process: psutil.Process) -> int:
    """Return the most memory a process ever held; what it holds now where nobody counted."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(process.memory_info().rss)
