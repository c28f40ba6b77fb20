"""JSON files of a checkpoint directory, read with errors that name them."""

import json
from pathlib import Path
from typing import Any

from ..remedies import unreadable

GGUF = ".gguf"
POINTER = b"version https://git-lfs"  # how the small files begin that git-lfs has for large ones


def read_object(path: Path, error: type[ValueError]) -> dict[str, Any] | None:
    """Read the JSON object in a file, None if there is no such file; raises `error` for a flaw.

    Python's own parser takes the NaN and Infinity that some config.json hold. A GGUF file stands
    for the directory that it was made from.
    """
    if is_gguf(path.parent):
        from ..gguf.files import gguf_file  # here, for few models are one, and it needs this module

        return gguf_file(path.parent, path.name, error)
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as flaw:
        raise error(unreadable(path, flaw)) from None
    except (ValueError, RecursionError) as flaw:
        if is_pointer(path):
            raise error(pointer_flaw(path)) from None
        raise error(f"{path} cannot be read ({flaw}); fetch it again") from None
    if not isinstance(value, dict):
        raise error(f"{path} does not hold a JSON object; fetch it again")
    return value


def is_gguf(path: Path) -> bool:
    """Return whether a path is that of a GGUF file, by its name."""
    return path.suffix.lower() == GGUF and not path.is_dir()


def is_pointer(path: Path) -> bool:
    """Return whether a file is what a clone without git-lfs has in place of the file."""
    try:
        with path.open("rb") as file:
            return file.read(len(POINTER)) == POINTER
    except OSError:
        return False


def not_a_file(path: Path) -> str | None:
    """Say what is wrong where something stands in the place of a file; None if nothing does."""
    return f"{path} is a directory, where a file was expected" if path.is_dir() else None


def pointer_flaw(path: Path) -> str:
    return f"{path} is a git-lfs pointer, not the file itself; run git lfs pull in its directory"
