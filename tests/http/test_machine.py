"""The limits of containers and shells, from trees of files as Linux shows them."""

import ctypes
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from bessemer.http import machine, shares
from bessemer.http.machine import free_memory, group_cores, group_memory, memory_kills

GB = 10**9
MOUNT2 = "30 25 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
MOUNT1 = "3{n} 25 0:3{n} {top} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"


def tree(root: Path, membership: str, mounts: str, files: Mapping[str, object]) -> Path:
    contents: dict[str, str] = {"proc/self/cgroup": membership, "proc/self/mountinfo": mounts}
    contents |= {f"sys/fs/cgroup/{name}": str(text) for name, text in files.items()}
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v2(root: Path, path: str, files: Mapping[str, object], top: str = "/") -> Path:
    return tree(root, f"0::{path}\n", MOUNT2.format(top=top), files)


def v1(root: Path, path: str, files: Mapping[str, object], top: str = "/") -> Path:
    mounts = [MOUNT1.format(n=n, top=top, name=name) for n, name in enumerate(("memory", "cpu"))]
    return tree(root, f"4:memory:{path}\n1:cpu,cpuacct:{path}\n", "".join(mounts), files)


def test_a_group_of_version_2(tmp_path: Path) -> None:
    """What is used counts, but for pages of files that may be dropped."""
    files = {
        "memory.max": 8 * GB,
        "memory.high": "max\n",
        "memory.current": 3 * GB,
        "memory.stat": f"anon 5\ninactive_file {GB}\nactive_file {GB}\n",
        "cpu.max": "250000 100000\n",
    }
    root = v2(tmp_path, "/", files)
    assert group_memory(root) == [6 * GB]
    assert group_cores(root) == [2]


def test_the_lower_of_high_and_max_counts(tmp_path: Path) -> None:
    assert group_memory(v2(tmp_path, "/", {"memory.max": 8, "memory.high": 5})) == [5]


def test_all_groups_above_count(tmp_path: Path) -> None:
    files = {
        "a/memory.max": 4 * GB,
        "a/memory.current": 3 * GB,
        "a/b/memory.max": 2 * GB,
        "a/b/memory.current": 0,
        "a/cpu.max": "100000 100000",
        "a/b/cpu.max": "max 100000",
        "other/memory.max": 1,
    }
    root = v2(tmp_path, "/a/b", files)
    assert min(group_memory(root)) == GB
    assert group_cores(root) == [1]


def test_a_group_of_version_1(tmp_path: Path) -> None:
    files = {
        "memory/a/memory.limit_in_bytes": 8 * GB,
        "memory/a/memory.usage_in_bytes": 2 * GB,
        "memory/a/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB}\n",
        "memory/memory.limit_in_bytes": 9223372036854771712,
        "cpu/a/cpu.cfs_quota_us": "350000",
        "cpu/a/cpu.cfs_period_us": "100000",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
    }
    root = v1(tmp_path, "/a", files)
    assert group_memory(root) == [7 * GB]
    assert group_cores(root) == [3]


def test_a_limit_above_that_is_out_of_sight(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": 9223372036854771712,
        "memory/memory.stat": f"hierarchical_memory_limit {GB}\n",
    }
    assert group_memory(v1(tmp_path, "/docker/x", files, top="/docker/x")) == [GB]


@pytest.mark.parametrize("path", ["/docker/x", "/docker/x/inner", "/elsewhere", "/../up"])
def test_a_container_that_sees_the_host_s_paths(tmp_path: Path, path: str) -> None:
    root = v2(tmp_path, path, {"memory.max": 7, "inner/memory.max": 9}, top="/docker/x")
    assert min(group_memory(root)) == 7


def test_version_1_for_memory_beside_an_empty_version_2(tmp_path: Path) -> None:
    mounts = MOUNT2.format(top="/").replace("cgroup rw,nosuid", "cgroup/unified rw,nosuid")
    mounts += MOUNT1.format(n=1, top="/", name="memory")
    files = {"memory/memory.limit_in_bytes": 11, "unified/cgroup.procs": "1"}
    root = tree(tmp_path, "4:memory:/\n0::/\n", mounts, files)
    assert group_memory(root) == [11] and group_cores(root) == []


@pytest.mark.parametrize("limit", ["", "max", "-1", "many", "1.5", "\0\xff", "²", "9" * 19])
def test_what_is_no_limit(tmp_path: Path, limit: str) -> None:
    files = {"memory.max": limit, "cpu.max": f"{limit[:5]} 100000", "memory.stat": "a\nb c d\n"}
    assert group_memory(v2(tmp_path, "/", files)) == []
    assert group_cores(v2(tmp_path, "/", {"cpu.max": "100000 0"})) == []


def test_a_quota_below_a_core_leaves_one(tmp_path: Path) -> None:
    assert group_cores(v2(tmp_path, "/", {"cpu.max": "20000 100000"})) == [1]


def test_a_full_group_leaves_nothing(tmp_path: Path) -> None:
    assert group_memory(v2(tmp_path, "/", {"memory.max": 5, "memory.current": 9})) == [0]


def test_no_proc_and_nonsense_in_it(tmp_path: Path) -> None:
    assert group_memory(tmp_path) == group_cores(tmp_path) == []
    root = tree(tmp_path, "nonsense\n:\n", "a b c\n - \n1 2 - cgroup2\n", {})
    assert group_memory(root) == group_cores(root) == []


def test_the_least_of_machine_and_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: unlimited)
    assert free_memory(v2(tmp_path, "/", {"memory.max": 12345})) == 12345
    assert 12345 < free_memory(tmp_path / "none") <= psutil.virtual_memory().total


@pytest.mark.skipif(sys.platform != "linux", reason="others do not enforce RLIMIT_AS")
def test_a_real_limit_of_the_address_space() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9));"
        "from bessemer.http.machine import free_memory; print(free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert 0 < int(done.stdout) < 3 * 10**9


def test_threads_follow_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "group_cores", lambda: [7, 1])
    assert shares.cores() == 1


def test_kills_are_those_of_the_nearest_group_that_counts_them(tmp_path: Path) -> None:
    events = {"a/memory.events": "low 0\noom 9\noom_kill 2\n", "a/b/memory.max": "max"}
    root = v2(tmp_path / "two", "/a/b", events)
    (root / "proc/vmstat").write_text("oom_kill 7\n")
    assert memory_kills(root) == 2
    control = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
    assert memory_kills(v1(tmp_path / "one", "/a", {"memory/a/memory.oom_control": control})) == 3


def test_kills_of_the_machine_where_no_group_counts(tmp_path: Path) -> None:
    root = v2(tmp_path, "/", {"memory.max": "max"})
    assert memory_kills(root) == memory_kills(tmp_path / "none") == 0
    (root / "proc/vmstat").write_text("nr_free_pages 5\noom_kill 7\n")
    assert memory_kills(root) == 7


FREED = """
import psutil
from bessemer.http.machine import hand_back_memory
hand_back_memory()
for _ in range(2):
    blocks = [bytearray(b"x" * 2_000_000) for _ in range(40)]
    before = psutil.Process().memory_info().rss
    del blocks[::2]
print((before - psutil.Process().memory_info().rss) // 1_000_000)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc")
def test_what_is_freed_goes_back_to_the_system() -> None:
    command = [sys.executable, "-P", "-c", FREED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 35
