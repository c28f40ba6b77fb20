"""Keys as a configuration names them: where they are kept rather than what they are."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

SECONDS = 10.0  # for the keychain, which may ask its owner
KIND = re.compile(r"(env|file|keychain):(.*)", re.DOTALL)


def secret(text: str, environment: Mapping[str, str]) -> str:
    """Return the key that env:NAME, file:PATH, keychain:NAME or a literal stands for.

    Raises ValueError, which tells no key, where there is none.
    """
    match = KIND.fullmatch(text.strip())
    if match is None:
        return _sound(text.strip(), "the key")
    kind, name = match[1], match[2].strip()
    if not name:
        raise ValueError(f"names nothing after {kind}:")
    if kind == "env":
        if not environment.get(name, "").strip():
            raise ValueError(f"is {text}, but the environment has no {name}")
        return _sound(environment[name].strip(), name)
    return _sound(_READ[kind](name), text)


def _sound(key: str, what: str) -> str:
    if not key:
        raise ValueError(f"is empty in {what}")
    if any(not 32 < ord(each) < 127 for each in key):
        raise ValueError("has a character that no header carries")
    return key


def _file(name: str) -> str:
    path = Path(name).expanduser()
    try:
        return path.read_text("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError(f"is in {path}, which is not UTF-8") from None
    except OSError as error:
        raise ValueError(f"is in {path}, which could not be read: {error.strerror}") from None


def _keychain(name: str) -> str:
    """Ask macOS for a generic password by the name of its service."""
    if sys.platform != "darwin":
        raise ValueError("is in a keychain, which only macOS has; use env: or file:")
    command = ["/usr/bin/security", "find-generic-password", "-s", name, "-w"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"is in the keychain as {name}, which did not answer") from None
    if found.returncode:
        raise ValueError(f"is in the keychain as {name}, where there is no such password")
    return found.stdout.strip()


_READ: Mapping[str, Callable[[str], str]] = {"file": _file, "keychain": _keychain}
