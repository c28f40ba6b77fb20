"""Another program's settings as plain values: TOML, JSON or YAML, whatever is wrong with it."""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..config import UsageError

DEEPEST = 32  # tables in one another
MOST = 100_000  # values of a file, each counted as often as YAML's anchors repeat it


def _yaml(text: str) -> Any:
    import yaml  # type: ignore[import-untyped]  # takes a moment, and few commands need it

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{error.problem}{where}") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


READERS: Mapping[str, Callable[[str], Any]] = {
    "JSON": json.loads, "TOML": tomllib.loads, "YAML": _yaml,
}  # fmt: skip
SUFFIXES: Mapping[str, tuple[str, ...]] = {
    ".json": ("JSON",),
    ".toml": ("TOML",),
    ".yaml": ("YAML",),
    ".yml": ("YAML",),
}


def load(path: Path) -> dict[str, Any]:
    """Return a file's tables, in which keys are texts, and dates too. Raises UsageError."""
    text = _text(path)
    notations = SUFFIXES.get(path.suffix.lower(), tuple(READERS))
    problem = ""
    for notation in notations:
        try:
            values = READERS[notation](text)
        except (ValueError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
            problem = f": {'it is nested too deeply' if deep else error}"
            continue
        if isinstance(values, dict):
            plain: dict[str, Any] = _Plain(path).of(values)
            return plain
    if len(notations) > 1:
        raise UsageError(f"{path} is no table in JSON, TOML or YAML")
    raise UsageError(f"{path} is no {'table in ' * (not problem)}{notation}{problem}")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (at byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{path} could not be read: {error.strerror}") from None


class _Plain:
    """What is left of a file's values once all are such as TOML has, in trees that end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def of(self, value: Any, depth: int = 0) -> Any:
        self.count += 1
        if depth > DEEPEST or self.count > MOST:
            many = "nested too deeply" if depth > DEEPEST else "too much"
            raise UsageError(f"{self.path} is {many} for a file of settings")
        if isinstance(value, dict):
            return {_sound(str(key)): self.of(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list):
            return [self.of(each, depth + 1) for each in value]
        known = value is None or isinstance(value, bool | int | float)
        return value if known else _sound(str(value))


def _sound(text: str) -> str:
    """Replace halves of characters, which JSON can spell and no file can hold."""
    return text.encode("utf-8", "replace").decode()
