"""What a container or a shell leaves to this process, memory and cores, and what it hands back."""

import ctypes
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path("/")
MMAP_THRESHOLD = -3, 2**18  # glibc's number for it, and bytes
NO_LIMIT = 1 << 60  # what cgroup v1 writes for none is near 2**63

# A group's files: limits, what is used, and the entries of memory.stat for what may be taken back
# and, in v1, for the least limit of the groups above, which may be out of sight.
V1 = (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
V2 = (("memory.max", "memory.high"), "memory.current", "inactive_file")
ABOVE = "hierarchical_memory_limit"
KILLS = "oom_kill"


def hand_back_memory() -> None:
    """Let what is large go back to the system when it is freed, of which glibc keeps much else."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(*MMAP_THRESHOLD)


def total_memory() -> int:
    """Return the bytes of the machine, or a limit of the address space."""
    return min([psutil.virtual_memory().total, *_address_space()])


def free_memory(root: Path = ROOT) -> int:
    """Return the bytes that may be taken: the machine's, or less where a limit is nearer."""
    return min([psutil.virtual_memory().available, *_address_space(), *group_memory(root)])


def group_memory(root: Path = ROOT) -> list[int]:
    """Return what each control group of this process that has a limit leaves, in bytes."""
    free: list[int] = []
    for version, group in _groups("memory", root):
        limits, used, reclaimable = V1 if version == 1 else V2
        stat = _stat(group / "memory.stat")
        sizes = [_number(group / name) for name in limits] + [stat.get(ABOVE)]
        limit = min([size for size in sizes if size is not None], default=NO_LIMIT)
        if limit < NO_LIMIT:
            taken = (_number(group / used) or 0) - stat.get(reclaimable, 0)
            free.append(max(0, limit - max(0, taken)))
    return free


def group_cores(root: Path = ROOT) -> list[int]:
    """Return the whole cores of each control group's quota, at least one.

    A thread beyond the quota is halted in the middle of an operation, and all others wait for it.
    """
    cores: list[int] = []
    for version, group in _groups("cpu", root):
        if version == 1:
            quota, period = (_number(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        else:
            quota, period = _pair(_text(group / "cpu.max"))
        if quota and period:
            cores.append(max(1, quota // period))
    return cores


def memory_kills(root: Path = ROOT) -> int:
    """Return how many processes the system has killed so far because memory was short.

    They are those of the nearest control group that counts them, or else the machine's.
    """
    for version, group in _groups("memory", root):
        counts = _stat(group / ("memory.oom_control" if version == 1 else "memory.events"))
        if KILLS in counts:
            return counts[KILLS]
    return _stat(root / "proc/vmstat").get(KILLS, 0)


def _address_space() -> list[int]:
    """Return what RLIMIT_AS leaves a process that maps as much as this one to begin with."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return []
    return [max(0, limit - psutil.Process().memory_info().vms)]


def _groups(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """Yield the groups of this process with a controller, and those above, with their version."""
    paths = dict(_memberships(_text(root / "proc/self/cgroup")))
    for line in _text(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        mount, source = left.split(), right.split()
        if len(mount) < 5 or len(source) < 3:
            continue
        if source[0] == "cgroup2" and "" in paths:
            version, path = 2, paths[""]
        elif source[0] == "cgroup" and controller in source[2].split(",") and controller in paths:
            version, path = 1, paths[controller]
        else:
            continue
        top = root / mount[4].lstrip("/")
        group = top / _below(path, mount[3])
        yield from ((version, each) for each in (group, *group.parents) if each.is_relative_to(top))


def _memberships(text: str) -> Iterator[tuple[str, str]]:
    """Yield (controller, path) of lines such as `4:cpu,cpuacct:/a/b`; v2's controller is empty."""
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield from ((name, parts[2]) for name in parts[1].split(","))


def _below(path: str, top: str) -> str:
    """Return a group's path below what is mounted; nothing where it is out of sight."""
    inside = Path(path)
    if ".." in inside.parts or not inside.is_relative_to(top):
        return ""
    return str(inside.relative_to(top))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    return _pair(_text(path))[0]


def _pair(text: str) -> tuple[int | None, int | None]:
    """Read one or two numbers; None for max, -1 and what is no number."""
    first, second, *_ = (*text.split(), "", "")
    return (
        int(first) if first.isdecimal() else None,
        int(second) if second.isdecimal() else None,
    )


def _stat(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
