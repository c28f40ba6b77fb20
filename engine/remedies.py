"""What helps against errors of the system's, in the words of a message's end."""

import errno
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

FREE_SPACE = "free some space, or write to another place"
REMEDIES: Mapping[int | None, str] = MappingProxyType({
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EFBIG: "write to a place that takes larger files",
    errno.EROFS: "write to another place, for nothing can be written to this one",
    errno.EACCES: "give this user the right to it (see chmod)",
    errno.EPERM: "give this user the right to it (see chmod)",
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "check the name",
    errno.EISDIR: "name a file",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOMEM: "end other programs, for memory is short",
})  # fmt: skip


def remedy(error: OSError) -> str:
    """Say what helps against an error of the system's."""
    return REMEDIES.get(error.errno, "see to that, or name another place")


def unreadable(path: Path | str, error: OSError) -> str:
    """Say that a file cannot be read, and what helps."""
    return f"{path} cannot be read ({error.strerror}); {remedy(error)}"
