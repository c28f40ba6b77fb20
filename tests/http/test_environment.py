"""What a worker is told of the environment."""

import os

from bessemer.http.environment import for_worker


def test_only_what_a_worker_needs_is_inherited() -> None:
    kept = {
        "PATH": "/bin",
        "HOME": "/h",
        "TMPDIR": "/t",
        "LANG": "C",
        "LC_CTYPE": "C",
        "PYTHONPATH": "x",
        "LD_LIBRARY_PATH": "/l",
        "MLX_DISABLE_COMPILE": "1",
        "OMP_X": "1",
    }
    secrets = ("BESSEMER_API_KEY", "HF_TOKEN", "OPENAI_API_KEY", "GITHUB_TOKEN", "DATABASE_URL")
    others = dict.fromkeys((*secrets, "BESSEMER_PORT", "HF_HOME", "SSH_AUTH_SOCK", "TERM"), "x")
    told = for_worker(kept | others, threads=3)
    allocator = {"MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert told == kept | allocator | {"OMP_NUM_THREADS": "3"}
    assert "PATH" in for_worker(os.environ, 1)
    assert for_worker({"MALLOC_ARENA_MAX": "9"}, 1)["MALLOC_ARENA_MAX"] == "9"
