"""What workers are told of this process's environment."""

from collections.abc import Mapping

# What a worker may see of the environment: paths, languages, and what its libraries are set by.
# Keys and tokens, all of Bessemer's own and whatever else there is are none of its business.
KEPT = frozenset(
    (
        *("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TEMP", "TMP", "TMPDIR", "TZ", "USER"),
        *("XDG_CACHE_HOME", "TOKENIZERS_PARALLELISM", "GLIBC_TUNABLES"),
        *("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "DEVELOPER_DIR", "SDKROOT"),
    )
)
KEPT_PREFIXES = (
    *("LC_", "LD_", "DYLD_", "PYTHON", "ZIG_", "MALLOC_"),
    *("MLX_", "MTL_", "METAL_", "CUDA_", "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "VECLIB_"),
)
# glibc keeps what each thread frees apart: with few arenas a worker's memory does not creep up. A
# KV pool of 755 MB that comes in large pages at once costs 0.2 s of a start in place of 0.7.
ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def for_worker(of_server: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the environment of a worker, whose libraries use so many threads."""
    kept = {
        name: value
        for name, value in of_server.items()
        if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
    return ALLOCATOR | kept | {"OMP_NUM_THREADS": str(threads)}
