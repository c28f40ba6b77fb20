"""API keys as a user gives them: from a flag, the environment or a file, and kept from view."""

import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import NoReturn

FLAG, VARIABLE = "--api-key", "BESSEMER_API_KEY"
LONGEST = 4096  # bytes of a key: a header has room for it
OTHERS = 0o077  # permissions of those who are not the file's owner


def keys(text: str) -> tuple[str, ...]:
    """Split at commas. Raises ValueError, which tells no key, where there is no sound one."""
    return _checked([part.strip() for part in text.split(",")])


def keys_of_file(path: Path) -> tuple[str, ...]:
    """Read one key a line, but for comments. Raises ValueError, which tells no key."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError("a file in UTF-8") from None
    return _checked([line.strip() for line in lines if not line.lstrip().startswith("#")])


def is_exposed(path: Path) -> bool:
    """Return whether others than its owner may read or write a file."""
    return bool(path.stat().st_mode & OTHERS)


def _checked(parts: Sequence[str]) -> tuple[str, ...]:
    found = tuple(filter(None, parts))
    if not found:
        raise ValueError("one key at least; leave it out to serve without keys")
    for key in found:
        if any(ord(each) < 32 or ord(each) == 127 for each in key):
            raise ValueError("keys without control characters, which no header carries")
        if len(key.encode("utf-8", "surrogateescape")) > LONGEST:
            raise ValueError(f"keys of {LONGEST} bytes at most")
    return found


def hide(given: Sequence[str], environment: MutableMapping[str, str]) -> None:
    """Start this process anew without its keys among its arguments, which everybody may read.

    They go into the environment, which only their owner may read. Returns where none is there.
    """
    count = len(sys.argv) - 1
    head, tail = sys.orig_argv[1 : len(sys.orig_argv) - count], sys.argv[1:]
    rest = without_keys(tail)
    if sys.orig_argv[len(sys.orig_argv) - count :] == tail and rest != tail:
        _restart([sys.executable, *head, *rest], {**environment, VARIABLE: ",".join(given)})


def without_keys(arguments: Sequence[str]) -> list[str]:
    """Return the arguments but for the keys and their flags."""
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == FLAG:
            next(remaining, None)
        elif not argument.startswith(f"{FLAG}="):
            rest.append(argument)
    return rest


def _restart(command: list[str], environment: dict[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)
