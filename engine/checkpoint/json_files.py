"""JSON files of a checkpoint directory, read with errors that name them."""

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..remedies import unreadable

GGUF = ".gguf"
# What may have a file's name and be none; to open some of these is to wait for good.
KINDS: Mapping[int, str] = MappingProxyType({
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
})  # fmt: skip
POINTER = b"version https://git-lfs"  # how the small files begin that git-lfs has for large ones


def read_object(path: Path, error: type[ValueError]) -> dict[str, Any] | None:
    """Read the JSON object in a file, None if there is no such file; raises `error` for a flaw.

    Python's own parser takes the NaN and Infinity that some config.json hold. A GGUF file stands
    for the directory that it was made from.
    """
    if is_gguf(path.parent):
        from ..gguf.files import gguf_file  # here, for few models are one, and it needs this module

        return gguf_file(path.parent, path.name, error)
    if flaw := not_a_file(path):
        raise error(flaw)
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as refused:
        raise error(unreadable(path, refused)) from None
    except (ValueError, RecursionError) as wrong:
        if is_pointer(path):
            raise error(pointer_flaw(path)) from None
        raise error(f"{path} cannot be read ({wrong}); fetch it again") from None
    if not isinstance(value, dict):
        raise error(f"{path} does not hold a JSON object; fetch it again")
    return value


def is_gguf(path: Path) -> bool:
    """Return whether a path is that of a GGUF file, by its name."""
    return path.suffix.lower() == GGUF and not path.is_dir()


def is_pointer(path: Path) -> bool:
    """Return whether a file is what a clone without git-lfs has in place of the file."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(POINTER)) == POINTER
    except OSError:
        return False


def not_a_file(path: Path) -> str | None:
    """Say what is wrong where something stands in the place of a file; None if nothing does."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return dangling(path)
    return f"{path} is {KINDS[kind]}, where a file was expected" if kind in KINDS else None


def dangling(path: Path) -> str | None:
    """Say of a link that what it leads to is not there; None of anything else."""
    if not path.is_symlink() or path.exists():
        return None
    return f"{path} is a link to {path.readlink()}, which is missing; fetch it again"


def pointer_flaw(path: Path) -> str:
    return f"{path} is a git-lfs pointer, not the file itself; run git lfs pull in its directory"
